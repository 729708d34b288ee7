"""`trainyard chat`: talk to a model or a run."""

import sys
from typing import Annotated

import typer

from trainyard.cli import models, options, output, prompts
from trainyard.sdk import Client, TrainyardAPIError
from trainyard.sdk.training_calls import Message


class Conversation:
    """A chat and its history.

    Attributes:
        messages: Every turn so far, the system's first.
    """

    def __init__(self, client: Client, model: str, system: str | None, max_tokens: int, temperature: float | None):
        self._client = client
        self._model = model
        self._max_tokens = max_tokens
        self._temperature = temperature
        self.messages: list[Message] = [{"role": "system", "content": system}] if system else []

    def ask(self, text: str, *, is_shown: bool = True) -> str:
        """Send a turn and return the answer, shown as it comes; a turn that fails leaves no trace in the history."""
        turn = {"role": "user", "content": text}
        pieces: list[str] = []
        for piece in self._client.chat_stream(
            [*self.messages, turn], model=self._model, max_tokens=self._max_tokens, temperature=self._temperature
        ):
            pieces.append(piece)
            if is_shown:
                sys.stdout.write(piece)
                sys.stdout.flush()
        if is_shown:
            print()
        answer = "".join(pieces)
        self.messages += [turn, {"role": "assistant", "content": answer}] if answer else []
        return answer


def chat(
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Ask this and end; standard input when it is piped.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model or run; the server's default model when left out.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 256,
    temperature: Annotated[float | None, typer.Option(help="0 = always the likeliest token.")] = None,
    url: options.Url = None,
    key: options.Key = None,
    as_json: options.AsJson = False,
) -> None:
    """Talk to a model: one question with --message or piped, a conversation on a terminal."""
    with Client(key, url) as client:
        name = model or models.to_call(client)
        conversation = Conversation(client, name, system, max_tokens, temperature)
        if message is None and sys.stdin.isatty() and not as_json:
            _talk(conversation, name)
            return
        answer = conversation.ask(prompts.given_or_piped(message, "--message"), is_shown=not as_json)
    if as_json:
        output.json_line({"model": name, "answer": answer})


def _talk(conversation: Conversation, name: str) -> None:
    print(f"{name} · an empty line or Ctrl-D ends")
    while True:
        try:
            text = input("> ")
        except EOFError:
            print()
            return
        if not text.strip():
            return
        try:
            conversation.ask(text)
        except TrainyardAPIError as error:  # the conversation so far is worth keeping
            print(f"trainyard: {error}", file=sys.stderr)
