import json

import pytest


@pytest.fixture
def respond(client):
    """Post a request for a response whose fields the caller adds to or replaces."""

    def post(**fields):
        return client.post("/v1/responses", json={"model": "gpt-4o", "input": "hi"} | fields)

    return post


@pytest.fixture
def events(respond):
    """The events of a streamed response, in their order; every frame is named for its event's type."""

    def stream(**fields):
        answer = respond(stream=True, **fields)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        frames = answer.text.split("\n\n")
        assert frames.pop() == ""
        heard = []
        for frame in frames:
            name, data = frame.split("\n")
            heard.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {heard[-1]['type']}"
        assert [event["sequence_number"] for event in heard] == list(range(len(heard)))
        return heard

    return stream
