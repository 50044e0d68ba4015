"""The wire shape of a streamed answer."""

import json
import logging

import pytest

from thermoscope.errors import EngineStopped

from .scripted import END, counts


def events(response):
    """The payloads of a stream, in order; the last as it came."""
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    frames = response.text.split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(data) if data != "[DONE]" else data for data in (frame[6:] for frame in frames)]


def choice_of(chunk):
    assert chunk["object"] == "chat.completion.chunk"
    (choice,) = chunk["choices"]
    return choice


def test_role_first_then_content_then_one_end(ask):
    *chunks, done = events(ask(stream=True))
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    first, *middle, last = map(choice_of, chunks)
    assert first == {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": None,
    }
    assert "".join(choice["delta"]["content"] for choice in middle) == "Paris."
    assert all(choice["delta"].keys() == {"content"} and choice["finish_reason"] is None for choice in middle)
    assert last == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert all("usage" not in chunk for chunk in chunks)


def test_nothing_between_stands_in_the_way_of_events(ask):
    headers = ask(stream=True).headers
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"


def test_streamed_equals_plain(ask, model):
    model.runner.script = ["Zürich – 日本語 🙂"]
    plain = ask(logprobs=True, top_logprobs=3, thermoscope={"steps": True}).json()["choices"][0]
    *chunks, _ = events(ask(stream=True, logprobs=True, top_logprobs=3, thermoscope={"steps": True}))
    choices = [choice_of(chunk) for chunk in chunks]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == plain["message"]["content"]
    logprobs = [item for choice in choices if choice["logprobs"] for item in choice["logprobs"]["content"]]
    assert logprobs == plain["logprobs"]["content"]
    steps = [step for choice in choices for step in choice.get("thermoscope", {"steps": []})["steps"]]
    assert steps == plain["thermoscope"]["steps"]
    assert steps[-1]["token"] == END


def test_text_that_is_held_back_makes_no_chunk_unless_its_token_is_asked_for(ask, model):
    model.runner.script = ["é"]
    texts = [choice_of(chunk)["delta"].get("content") for chunk in events(ask(stream=True))[:-1]]
    assert texts == ["", "é", None]
    texts = [
        choice_of(chunk)["delta"].get("content") for chunk in events(ask(stream=True, logprobs=True))[:-1]
    ]
    assert texts == ["", "", "é", "", None]


def test_each_choice_begins_and_ends_once(ask):
    choices = [choice_of(chunk) for chunk in events(ask(stream=True, n=2))[:-1]]
    for index in (0, 1):
        mine = [choice for choice in choices if choice["index"] == index]
        assert [choice["delta"].get("role") for choice in mine] == ["assistant"] + [None] * (len(mine) - 1)
        assert [choice["finish_reason"] for choice in mine] == [None] * (len(mine) - 1) + ["stop"]
        assert "".join(choice["delta"].get("content", "") for choice in mine) == "Paris."


def test_usage_comes_last_and_is_null_before(ask):
    *chunks, last, _ = events(ask(stream=True, stream_options={"include_usage": True}))
    assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
    assert last["choices"] == []
    assert counts(last["usage"]) == (3, 7, 10)


def test_an_answer_cut_by_max_tokens_ends_with_length(ask):
    choices = [choice_of(chunk) for chunk in events(ask(stream=True, max_tokens=2))[:-1]]
    assert [choice["delta"].get("content") for choice in choices] == ["", "P", "a", None]
    assert choices[-1]["finish_reason"] == "length"


def test_an_error_on_the_way_is_an_event_and_the_last(ask, model):
    model.runner.script = ["Par", EngineStopped("The engine was stopped.")]
    *_, last = events(ask(stream=True))
    assert last == {
        "error": {
            "message": "The engine was stopped.",
            "type": "server_error",
            "param": None,
            "code": "engine_stopped",
        }
    }


def test_an_unexpected_error_on_the_way_is_logged_and_not_told(ask, model, caplog):
    model.runner.script = ["Par", ZeroDivisionError("secret")]
    with caplog.at_level(logging.ERROR, "thermoscope.server.errors"):
        *_, last = events(ask(stream=True))
    assert last["error"]["type"] == "server_error"
    assert "secret" not in last["error"]["message"]
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("stream", [False, True])
def test_the_ticket_is_given_back(ask, model, stream):
    ask(stream=stream)
    assert model.runner.tickets[0].cancelled.is_set()
