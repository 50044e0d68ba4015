"""OpenAI's own client, which checks every byte of ours against its types."""

import openai
import pytest

from thermoscope.errors import EngineStopped

LOGPROBS = {"include": ["message.output_text.logprobs"], "top_logprobs": 3}


def test_plain(openai_client):
    answer = openai_client.responses.create(
        model="gpt-4o", input="hi", instructions="be brief", temperature=0.7, max_output_tokens=30, **LOGPROBS
    )
    assert answer.output_text == "Paris."
    assert len(answer.output[0].content[0].logprobs[0].top_logprobs) == 3
    assert answer.usage.total_tokens == answer.usage.input_tokens + 7
    assert openai_client.responses.retrieve(answer.id).to_dict() == answer.to_dict()
    items = openai_client.responses.input_items.list(answer.id)
    assert [item.content[0].text for item in items] == ["hi"]
    openai_client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        openai_client.responses.retrieve(answer.id)


def test_streamed(openai_client):
    stream = openai_client.responses.create(model="gpt-4o", input="hi", stream=True, **LOGPROBS)
    *events, last = stream
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Paris."
    assert last.response.output_text == "Paris."


def test_streamed_and_put_together_by_the_client(openai_client):
    with openai_client.responses.stream(model="gpt-4o", input="hi") as stream:
        assert [event.snapshot for event in stream if event.type == "response.output_text.delta"][
            -1
        ] == "Paris."
        answer = stream.get_final_response()
    assert answer.output_text == "Paris."


def test_an_answer_can_be_sent_back_as_it_came(openai_client, model):
    answer = openai_client.responses.create(model="gpt-4o", input="hi", **LOGPROBS)
    history = [{"role": "user", "content": "hi"}, *answer.output, {"role": "user", "content": "sure?"}]
    assert openai_client.responses.create(model="gpt-4o", input=history).output_text == "Paris."
    assert bytes(model.runner.requests[-1].prompt[:-1]).decode() == "hiParis.sure?"


def test_pages_of_items(openai_client):
    asked = [{"role": "user", "content": str(number)} for number in range(5)]
    answer = openai_client.responses.create(model="gpt-4o", input=asked)
    items = openai_client.responses.input_items.list(answer.id, limit=2, order="asc")
    assert [item.content[0].text for item in items] == list("01234")  # the client turns the pages


def test_input_is_counted(openai_client):
    assert openai_client.responses.input_tokens.count(model="gpt-4o", input="hello").input_tokens == 6


def test_errors_have_their_classes(openai_client, model):
    create = openai_client.responses.create
    with pytest.raises(openai.BadRequestError) as caught:
        create()
    assert caught.value.param == "input"
    with pytest.raises(openai.BadRequestError):
        openai_client.responses.cancel(create(model="gpt-4o", input="hi").id)
    with pytest.raises(openai.NotFoundError):
        openai_client.responses.compact(model="gpt-4o", input="hi")
    model.runner.script = ["Par", EngineStopped("stopped")]
    with pytest.raises(openai.InternalServerError):
        create(model="gpt-4o", input="hi")
    *_, error, last = create(model="gpt-4o", input="hi", stream=True)
    assert (error.type, error.code) == ("error", "engine_stopped")
    assert last.response.status == "failed"
