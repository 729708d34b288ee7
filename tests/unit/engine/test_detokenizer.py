"""Text from token streams: whole characters, stop strings across borders, tokens that match the text."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.contract.engine import model_directories
from trainyard.core import errors
from trainyard.engine import generation, types
from trainyard.engine.detokenizer import Detokenizer, StopFinder
from trainyard.engine.tokenizer import Tokenizer

FAMILIES = ("qwen", "mistral")


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = model_directories.write_family(tmp_path_factory.mktemp("tokenizer"), request.param)
    return Tokenizer.from_directory(path)


def stream(detokenizer: Detokenizer, ids: list[int]) -> list[str]:
    return [*(detokenizer.push(one) for one in ids), detokenizer.flush()]


def bytes_as_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """Spell text with one token per byte, so that every character of two bytes or more is split."""
    by_byte = {tokenizer.token_bytes(token): token for token in reversed(range(tokenizer.vocab_size))}
    return [by_byte[bytes([byte])] for byte in text.encode()]


words = st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=30)


@settings(max_examples=150, deadline=None)
@given(text=words)
@example(text="𐀀 \xa00")  # a context cut inside the first character would break the last
def test_pieces_join_to_the_decoded_text_and_are_never_broken(tokenizer: Tokenizer, text: str) -> None:
    for ids in (tokenizer.encode(text, add_special_tokens=False), bytes_as_tokens(tokenizer, text)):
        pieces = stream(Detokenizer(tokenizer), ids)
        assert "".join(pieces) == tokenizer.decode(ids)
        assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=60, deadline=None)
@given(data=st.lists(st.integers(0, 255), max_size=120))
def test_bytes_that_are_no_text_come_out_as_replacements_and_lose_nothing_else(
    tokenizer: Tokenizer, data: list[int]
) -> None:
    by_byte = {tokenizer.token_bytes(token): token for token in reversed(range(tokenizer.vocab_size))}
    ids = [*(by_byte[bytes([byte])] for byte in data), *tokenizer.encode("end", add_special_tokens=False)]
    text = "".join(stream(Detokenizer(tokenizer), ids))
    assert text.endswith("end")
    if tokenizer.bos_id is None and len(data) < 30:  # byte-level decoding does not depend on its surroundings
        assert text == tokenizer.decode(ids)


def test_a_long_run_of_broken_bytes_is_not_held_back_for_ever(tokenizer: Tokenizer) -> None:
    by_byte = {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size)}
    pieces = stream(Detokenizer(tokenizer), [by_byte[b"\xff"]] * 100)
    assert "".join(pieces) == "\ufffd" * 100
    assert len(pieces[-1]) <= 40


@settings(max_examples=100, deadline=None)
@given(prompt=words, text=words)
def test_text_goes_on_where_the_prompt_ends(tokenizer: Tokenizer, prompt: str, text: str) -> None:
    ids = bytes_as_tokens(tokenizer, "x" + prompt)
    following = bytes_as_tokens(tokenizer, text)
    assert "".join(stream(Detokenizer(tokenizer, ids), following)) == text


def test_a_leading_space_counts_only_after_a_prompt(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_directory(model_directories.write_family(tmp_path, "mistral"))
    prompt, following = tokenizer.encode("Hello"), tokenizer.encode("there", add_special_tokens=False)
    assert "".join(stream(Detokenizer(tokenizer, prompt), following)) == " there"
    assert "".join(stream(Detokenizer(tokenizer), following)) == "there"


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(st.text("ab\n", max_size=4), max_size=12),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
)
def test_stop_strings_are_found_wherever_they_are_split(pieces: list[str], stops: list[str]) -> None:
    finder, out = StopFinder(stops), ""
    for piece in pieces:
        out += finder.push(piece)
        if finder.is_found:
            break
    else:
        out += finder.flush()
    whole = "".join(pieces)
    ends = [at + len(stop) for stop in stops if (at := whole.find(stop)) >= 0]
    assert finder.is_found == bool(ends)
    if not ends:
        assert out == whole
    else:
        assert whole.startswith(out)
        assert any(whole.startswith(stop, len(out)) for stop in stops)
        assert not any(stop in out for stop in stops)


@pytest.mark.parametrize(
    ("stops", "pushed", "given"),
    [
        (["###"], ["a#", "#b"], ["a", "##b"]),
        (["###"], ["a##", "#b"], ["a", ""]),
        (["\n\n", "END"], ["x\n", "yE", "ND"], ["x", "\ny", ""]),
        ([], ["x", "y"], ["x", "y"]),
    ],
)
def test_only_what_could_be_a_stop_is_held_back(stops: list[str], pushed: list[str], given: list[str]) -> None:
    finder = StopFinder(stops)
    assert [finder.push(text) for text in pushed] == given


class Scripted:
    """An engine that draws the given ids; it counts how far it was asked to go."""

    def __init__(self, ids: list[int], end: types.FinishReason | None = "length") -> None:
        self.ids, self.end = ids, end
        self.asked: types.GenerateRequest | None = None
        self.drawn = 0
        self.is_closed = False

    async def generate(self, request: types.GenerateRequest) -> AsyncIterator[types.TokenEvent]:
        self.asked = request
        try:
            for at, token in enumerate(self.ids):
                self.drawn += 1
                yield types.TokenEvent(
                    token=token,
                    logprob=-0.5 * (at + 1),
                    top=((token, -0.5),),
                    finish=self.end if at == len(self.ids) - 1 else None,
                    weights_version="base",
                )
        finally:
            self.is_closed = True


async def run(tokenizer: Tokenizer, engine: Scripted, stop: tuple[str, ...] = ()) -> generation.TextPiece:
    request = generation.TextRequest(
        prompt_ids=tokenizer.encode("Hello"), max_tokens=64, stop=stop, continues_prompt=False, logprobs=1
    )
    return await generation.collect_text(engine, tokenizer, request)  # type: ignore[arg-type]  # generate is all it needs


async def test_a_stop_string_ends_the_text_before_it_and_frees_the_engine(tokenizer: Tokenizer) -> None:
    ids = bytes_as_tokens(tokenizer, "one STOP two")
    engine = Scripted(ids)
    result = await run(tokenizer, engine, ("STOP",))
    assert (result.text, result.finish_reason) == ("one ", "stop")
    assert result.token_ids == ids[:4]
    assert result.logprobs == [-0.5, -1.0, -1.5, -2.0]
    assert (result.completion_tokens, engine.drawn, engine.is_closed) == (8, 8, True)


async def test_the_end_token_is_counted_but_is_neither_text_nor_token(tokenizer: Tokenizer) -> None:
    ids = bytes_as_tokens(tokenizer, "hi")
    assert tokenizer.eos_id is not None
    engine = Scripted([*ids, tokenizer.eos_id], "stop")
    result = await run(tokenizer, engine)
    assert (result.text, result.finish_reason, result.token_ids) == ("hi", "stop", ids)
    assert result.completion_tokens == 3
    assert engine.asked is not None
    assert engine.asked.sampling.stop_token_ids == tokenizer.eos_ids


async def test_the_length_limit_gives_out_what_a_stop_string_held_back(tokenizer: Tokenizer) -> None:
    ids = bytes_as_tokens(tokenizer, "wait ST")
    result = await run(tokenizer, Scripted(ids), ("STOP",))
    assert (result.text, result.finish_reason, result.token_ids) == ("wait ST", "length", ids)


async def test_a_cut_character_at_the_limit_is_one_replacement(tokenizer: Tokenizer) -> None:
    ids = bytes_as_tokens(tokenizer, "ab🎉")[:-1]
    result = await run(tokenizer, Scripted(ids))
    assert result.text.rstrip("\ufffd") == "ab"
    assert result.token_ids == ids


@pytest.mark.parametrize("end", ["cancelled", None])
async def test_a_stream_that_the_engine_gives_up_is_an_error_to_retry(
    tokenizer: Tokenizer, end: types.FinishReason | None
) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        await run(tokenizer, Scripted(bytes_as_tokens(tokenizer, "some"), end))
    assert caught.value.code == "generation_cancelled"


async def test_every_piece_has_the_tokens_of_its_text(tokenizer: Tokenizer) -> None:
    ids = bytes_as_tokens(tokenizer, "é!")
    request = generation.TextRequest(prompt_ids=[1], max_tokens=9, continues_prompt=False)
    engine = Scripted(ids)
    pieces = [one async for one in generation.stream_text(engine, tokenizer, request)]  # type: ignore[arg-type]
    assert "".join(piece.text for piece in pieces) == "é!"
    assert [token for piece in pieces for token in piece.token_ids] == ids
    assert [piece.finish_reason for piece in pieces][-1] == "length"


@pytest.mark.parametrize("text", ["Hello there", "é東🎉", "a\tb\n"])
def test_token_bytes_join_to_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert b"".join(tokenizer.token_bytes(one) for one in ids).decode().removeprefix(" ") == text
    assert tokenizer.token_bytes(tokenizer.vocab_size + 5) == b""
    assert math.isclose(
        len(tokenizer.token_bytes(tokenizer.eos_id or 0)), len(tokenizer.tokens([tokenizer.eos_id or 0])[0])
    )


@pytest.mark.parametrize(
    ("text", "stops", "before"),
    [
        ("aabbc", ("abb", "b"), "aa"),  # "b" is complete before "abb" is
        ("bbccc", ("bccc", "c"), "bb"),
        ("xabc", ("c", "bc", "abc"), "x"),  # all complete at once: the longest
        ("abab", ("bab", "ba"), "a"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_where_text_stops_does_not_depend_on_how_it_is_cut(
    text: str, stops: tuple[str, ...], before: str, size: int
) -> None:
    finder = StopFinder(stops)
    out = ""
    for start in range(0, len(text), size):
        if not finder.is_found:
            out += finder.push(text[start : start + size])
    assert (out, finder.is_found) == (before, True)
