"""`trainyard generate`: continue a prompt."""

import sys
from typing import Annotated

import typer

from trainyard.cli import models, options, output, prompts
from trainyard.sdk import Client


def generate(
    prompt: Annotated[str | None, typer.Argument(help="Text to continue; standard input when left out.")] = None,
    model: Annotated[str | None, typer.Option(help="Model or run; the server's default model when left out.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens to write.")] = 128,
    temperature: Annotated[float | None, typer.Option(help="0 = always the likeliest token.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Share of the likelihood to draw from.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; can be repeated.")] = None,
    url: options.Url = None,
    key: options.Key = None,
    as_json: options.AsJson = False,
) -> None:
    """Continue a prompt with a model or a run, as it is written."""
    text = prompts.given_or_piped(prompt, "PROMPT")
    pieces: list[str] = []
    with Client(key, url) as client:
        name = model or models.to_call(client)
        for piece in client.generate_stream(
            text, model=name, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, stop=stop
        ):
            pieces.append(piece)
            if not as_json:
                sys.stdout.write(piece)
                sys.stdout.flush()
    if as_json:
        output.json_line({"model": name, "output": "".join(pieces)})
    else:
        print()
