import pytest

from trainyard.sdk.call import StreamCall
from trainyard.sdk.results import Result
from trainyard.sdk.sse import EventReader


def items_of(lines: list[str]) -> list[Result]:
    reader = EventReader(StreamCall("/", lambda _name, event: event if event.get("n") != 0 else None, {}))
    return [item for line in lines for item in reader.feed(line)]


@pytest.mark.parametrize(
    ("lines", "items"),
    [
        (['data: {"n": 1}', ""], [{"n": 1}]),
        (['data:{"n": 1}', "", 'data: {"n": 2}', ""], [{"n": 1}, {"n": 2}]),
        ([": a comment", "event: token", "id: 7", 'data: {"n": 1}', ""], [{"n": 1}]),
        (['data: {"n":', "data: 1}", ""], [{"n": 1}]),
        (['data: {"n": 0}', ""], []),
        (["", ""], []),
        (['data: {"n": 1}'], []),  # never completed
        (['data: {"n": 1}', "", "data: [DONE]", ""], [{"n": 1}]),
    ],
)
def test_lines_become_items(lines: list[str], items: list[object]) -> None:
    assert items_of(lines) == items
