"""OpenAI's own client, which checks every byte of ours against its types."""

import openai
import pytest

from thermoscope.errors import EngineStopped

MESSAGES = [{"role": "user", "content": "hi"}]


def test_plain(openai_client):
    answer = openai_client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, n=2, logprobs=True, top_logprobs=3, temperature=0.7, max_tokens=30
    )
    assert [choice.message.content for choice in answer.choices] == ["Paris."] * 2
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 3
    assert answer.usage.total_tokens == 3 + 2 * 7
    assert answer._request_id.startswith("req_")


def test_streamed(openai_client):
    stream = openai_client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, logprobs=True, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Paris."
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.usage.completion_tokens == 7


def test_streamed_and_put_together_by_the_client(openai_client):
    with openai_client.chat.completions.stream(model="gpt-4o", messages=MESSAGES, n=2) as stream:
        answer = stream.get_final_completion()
    assert [choice.message.content for choice in answer.choices] == ["Paris."] * 2


def test_an_answer_can_be_sent_back_as_it_came(openai_client):
    answer = openai_client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    history = [*MESSAGES, answer.choices[0].message, {"role": "user", "content": "sure?"}]
    assert openai_client.chat.completions.create(model="gpt-4o", messages=history).choices


def test_own_fields_pass_through(openai_client):
    answer = openai_client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, extra_body={"thermoscope": {"steps": True, "top_k": 5}}
    )
    assert [step["text"] for step in answer.choices[0].thermoscope["steps"]] == [*"Paris.", ""]


def test_models(openai_client):
    assert [model.id for model in openai_client.models.list()] == ["Scripted-1B", "gpt-4o"]
    assert openai_client.models.retrieve("gpt-4o").id == "gpt-4o"


def test_errors_have_their_classes(openai_client, model):
    create = openai_client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as caught:
        create(model="gpt-9", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        create(model="gpt-4o", messages=MESSAGES, top_p=2)
    assert caught.value.param == "top_p"
    model.runner.script = ["Par", EngineStopped("stopped")]
    with pytest.raises(openai.InternalServerError):
        create(model="gpt-4o", messages=MESSAGES)
    with pytest.raises(openai.APIError, match="stopped"):
        list(create(model="gpt-4o", messages=MESSAGES, stream=True))
