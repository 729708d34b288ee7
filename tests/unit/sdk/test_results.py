import pytest

from trainyard.sdk import results


def test_a_result_reads_as_attributes_and_as_items() -> None:
    result = results.decode('{"loss": 1.5, "metrics": {"tokens": 3}, "list": [{"a": 1}]}')
    assert result.loss == result["loss"] == 1.5
    assert result.metrics.tokens == result["metrics"]["tokens"] == 3
    assert result.list[0].a == 1


def test_a_missing_field_names_those_that_are_there() -> None:
    with pytest.raises(AttributeError, match=r"no field 'los' in this answer; it has \['loss'\]"):
        _ = results.Result(loss=1).los


@pytest.mark.parametrize(("content", "text"), [("hi", "hi"), (None, "")])
def test_the_text_of_a_chat(content: str | None, text: str) -> None:
    assert results.Chat(choices=[results.Result(message=results.Result(content=content))]).text == text


def test_vectors_are_listed_in_the_order_of_their_texts() -> None:
    rows = [results.Result(embedding=[0.6, 0.8], index=0), results.Result(embedding=[1.0, 0.0], index=1)]
    assert results.Vectors(data=rows).vectors == [[0.6, 0.8], [1.0, 0.0]]
