"""LiteLLM, as it speaks to a server of OpenAI's form and to one of vLLM's."""

import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network for prices

import litellm
from run import ADDRESS, ASKED, MODEL, QUESTION, WEATHER, main, raised

MESSAGES = [{"role": "user", "content": QUESTION}]


def create(provider="openai", **fields):
    return litellm.completion(
        model=f"{provider}/{MODEL}",
        api_base=f"{ADDRESS}/v1",
        api_key="none",
        seed=3,
        temperature=0.7,
        num_retries=0,
        **fields,
    )


def plain_and_streamed_agree():
    for provider in ("openai", "hosted_vllm"):
        plain = create(provider, messages=MESSAGES, max_tokens=30).choices[0]
        chunks = list(create(provider, messages=MESSAGES, max_tokens=30, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.message.content


def a_call():
    choice = create(
        messages=ASKED, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False
    ).choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert json.loads(call.function.arguments).keys() == {"city", "unit"}


def a_streamed_call():
    chunks = list(
        create(
            messages=ASKED, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, stream=True
        )
    )
    (call,) = litellm.stream_chunk_builder(chunks, messages=ASKED).choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments).keys() == {"city", "unit"}


def the_loop_of_call_result_and_answer():
    called = (
        create(messages=ASKED, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
        .choices[0]
        .message
    )
    result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": '{"temperature": 21}'}
    answer = create(
        messages=[*ASKED, called.model_dump(), result], tools=[WEATHER], tool_choice="none", max_tokens=40
    )
    assert answer.choices[0].message.content.strip()


def a_wrong_request_has_its_class():
    raised(litellm.BadRequestError, lambda: create(messages=MESSAGES, top_p=2))


main(
    [
        plain_and_streamed_agree,
        a_call,
        a_streamed_call,
        the_loop_of_call_result_and_answer,
        a_wrong_request_has_its_class,
    ],
    "litellm",
    "openai",
)
