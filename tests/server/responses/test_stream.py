"""A response as events: their order, and that they tell what the whole answer does."""

import pytest

from thermoscope.errors import EngineStopped


def kinds(heard):
    return [event["type"].removeprefix("response.") for event in heard]


def test_the_order_of_events(events):
    heard = events()
    assert kinds(heard) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 6,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert heard[0]["response"]["status"] == heard[1]["response"]["status"] == "in_progress"
    assert heard[0]["response"]["output"] == []
    assert heard[0]["response"]["usage"] is None
    assert {event["item_id"] for event in heard if "item_id" in event} == {heard[2]["item"]["id"]}
    assert heard[-1]["response"]["output"] == [heard[-2]["item"]]


def test_streamed_equals_plain(respond, events, model):
    model.runner.script = ["Zürich – 日本語 🙂"]
    wanted = {
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 3,
        "thermoscope": {"steps": True},
        "metadata": {"a": "b"},
    }
    plain = respond(**wanted).json()
    *heard, last = events(**wanted)
    part = plain["output"][0]["content"][0]
    deltas = [event for event in heard if event["type"] == "response.output_text.delta"]
    assert "".join(event["delta"] for event in deltas) == part["text"]
    assert [item for event in deltas for item in event["logprobs"]] == part["logprobs"]
    changing = {"id", "created_at", "completed_at"}
    whole = last["response"]
    assert whole["output"][0] | {"id": ""} == plain["output"][0] | {"id": ""}
    assert {name: value for name, value in whole.items() if name not in {*changing, "output"}} == {
        name: value for name, value in plain.items() if name not in {*changing, "output"}
    }


def test_it_can_be_asked_for_again(client, events):
    last = events()[-1]["response"]
    assert client.get(f"/v1/responses/{last['id']}").json() == last


def test_an_answer_cut_by_its_limit_is_incomplete(events):
    *heard, last = events(max_output_tokens=2)
    assert kinds(heard)[-3:] == ["output_text.done", "content_part.done", "output_item.done"]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_an_error_on_the_way_ends_it(client, events, model):
    model.runner.script = ["Par", EngineStopped("The engine was stopped.")]
    *_, error, last = events()
    assert error == {
        "type": "error",
        "code": "engine_stopped",
        "message": "The engine was stopped.",
        "param": None,
        "sequence_number": 7,
    }
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "server_error", "message": "The engine was stopped."}
    assert client.get(f"/v1/responses/{last['response']['id']}").json() == last["response"]


def test_an_unexpected_error_is_not_told(events, model, caplog):
    model.runner.script = ["Par", ZeroDivisionError("secret")]
    assert "secret" not in str(events()[-2:])
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("field", ["temperature", "model"])
def test_what_is_refused_before_it_begins_has_its_status(respond, field):
    assert respond(stream=True, **{field: -1}).status_code == 400
