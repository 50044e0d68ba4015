"""What is kept: asked for again, continued, referred to, listed, forgotten."""

import pytest

from thermoscope.server.responses import store
from thermoscope.server.responses.store import Kept, Store


def texts(items):
    return [part["text"] for item in items for part in item["content"]]


def test_a_response_is_kept_as_it_was_given(client, respond):
    given = respond(thermoscope={"steps": True}, include=["message.output_text.logprobs"]).json()
    assert client.get(f"/v1/responses/{given['id']}").json() == given
    assert client.get(f"/v1/responses/{given['id']}?stream=false").json() == given


def test_one_that_is_not_to_be_stored_is_not(client, respond):
    given = respond(store=False).json()
    assert given["store"] is False
    assert client.get(f"/v1/responses/{given['id']}").status_code == 404


def test_one_is_forgotten_on_request(client, respond):
    at = f"/v1/responses/{respond().json()['id']}"
    assert client.delete(at).json()["deleted"] is True
    assert client.get(at).status_code == client.delete(at).status_code == 404
    assert client.get(at + "/input_items").json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("query", ["stream=true", "include[]=x", "starting_after=1"])
def test_what_an_address_does_not_read_is_refused(client, respond, query):
    answer = client.get(f"/v1/responses/{respond().json()['id']}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.split("=")[0]


def test_a_conversation_goes_on_without_its_instructions(client, respond, model):
    first = respond(input="one", instructions="be brief").json()
    second = respond(input="two", previous_response_id=first["id"]).json()
    third = respond(input="three", previous_response_id=second["id"], instructions="shout").json()
    assert third["previous_response_id"] == second["id"]
    assert bytes(model.runner.requests[-1].prompt[:-1]).decode() == "shoutoneParis.twoParis.three"
    items = client.get(f"/v1/responses/{third['id']}/input_items?order=asc").json()["data"]
    assert texts(items) == ["one", "Paris.", "two", "Paris.", "three"]
    assert items[1] == first["output"][0]


def test_what_was_continued_outlives_its_beginning(client, respond, model):
    first = respond(input="one").json()
    second = respond(input="two", previous_response_id=first["id"]).json()
    client.delete(f"/v1/responses/{first['id']}")
    assert respond(previous_response_id=second["id"]).status_code == 200
    assert bytes(model.runner.requests[-1].prompt[:-1]).decode() == "oneParis.twoParis.hi"
    gone = respond(previous_response_id=first["id"]).json()["error"]
    assert (gone["param"], gone["code"]) == ("previous_response_id", "previous_response_not_found")


def test_an_item_can_be_referred_to(respond, model):
    said = respond().json()["output"][0]
    assert respond(input=[{"id": said["id"]}, {"role": "user", "content": "!"}]).status_code == 200
    assert bytes(model.runner.requests[-1].prompt[:-1]).decode() == "Paris.!"


def test_input_items_come_in_pages(client, respond):
    asked = [{"role": "user", "content": str(number)} for number in range(5)]
    at = f"/v1/responses/{respond(input=asked).json()['id']}/input_items"
    newest = client.get(at).json()
    assert texts(newest["data"]) == ["4", "3", "2", "1", "0"]
    assert not newest["has_more"]
    page = client.get(f"{at}?limit=2&order=asc").json()
    assert (texts(page["data"]), page["has_more"]) == (["0", "1"], True)
    assert (page["first_id"], page["last_id"]) == tuple(item["id"] for item in page["data"])
    page = client.get(f"{at}?limit=3&order=asc&after={page['last_id']}").json()
    assert (texts(page["data"]), page["has_more"]) == (["2", "3", "4"], False)
    for query in ("limit=0", "limit=101", "order=up", "after=msg_1", "before=msg_1"):
        assert client.get(f"{at}?{query}").json()["error"]["param"] == query.split("=")[0]


def test_the_last_ones_are_kept_and_no_more(monkeypatch):
    monkeypatch.setattr(store, "KEPT", 3)
    monkeypatch.setattr(store, "BYTES", 100)
    kept = Store()

    def left():
        return [name for name in "abcdef" if name in kept._kept]

    for name in "abcd":
        kept.keep(name, Kept(b"x" * 10, [], []))
    assert left() == ["b", "c", "d"]
    kept.keep("e", Kept(b"x" * 85, [], []))
    assert left() == ["d", "e"]
    kept.keep("f", Kept(b"x" * 101, [], []))
    assert left() == []
