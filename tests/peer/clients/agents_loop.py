"""OpenAI's Agents SDK, which speaks to /v1/responses: loops, streams, types of answers, handing over."""

import asyncio
from typing import Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel
from run import ADDRESS, MODEL, QUESTION, main

set_tracing_disabled(True)
client = AsyncOpenAI(
    base_url=f"{ADDRESS}/v1", api_key="none", max_retries=0, _strict_response_validation=True
)
MODEL_HERE = OpenAIResponsesModel(model=MODEL, openai_client=client)
ASKED = "What is the weather in Paris?"
LOOP = asyncio.Runner()  # one for all: the client keeps its connections to it
called = []


@function_tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather in a city."""
    called.append(city)
    return f"The sky over {city} is clear."


class Verdict(BaseModel):
    """Whether it is warm in a city."""

    city: Literal["Paris", "Rome"]
    warm: bool


def agent(name, *, must=False, **fields):
    """An agent; with `must`, its first turn has to call. The SDK lets later turns be free."""
    settings = ModelSettings(
        tool_choice="required" if must else None,
        temperature=0.3,
        max_tokens=700,
        extra_body={"seed": 5},
        top_logprobs=2,
    )
    return Agent(name=name, instructions="Be brief.", model=MODEL_HERE, model_settings=settings, **fields)


def run(one, asked, **fields):
    return LOOP.run(Runner.run(one, asked, max_turns=4, **fields))


def an_answer():
    assert run(agent("plain"), QUESTION).final_output.strip()


def the_loop_of_call_result_and_answer():
    called.clear()
    result = run(agent("weather", must=True, tools=[get_weather]), ASKED)
    kinds = [type(item).__name__ for item in result.new_items]
    assert kinds.count("ToolCallItem") == kinds.count("ToolCallOutputItem") > 0
    assert called
    assert result.final_output.strip()


def the_loop_goes_on_with_items_sent_back():
    one = agent("weather", must=True, tools=[get_weather])
    first = run(one, ASKED)
    called.clear()
    again = run(one, [*first.to_input_list(), {"role": "user", "content": "And in Rome?"}])
    assert called
    assert again.final_output.strip()


def the_loop_goes_on_from_a_kept_response():
    one = agent("weather", must=True, tools=[get_weather])
    first = run(one, ASKED)
    called.clear()
    again = run(one, "And in Rome?", previous_response_id=first.last_response_id)
    assert called
    assert again.final_output.strip()


def a_streamed_loop_is_the_loop():
    one = agent("weather", must=True, tools=[get_weather])

    async def listen():
        result = Runner.run_streamed(one, ASKED, max_turns=4)
        kinds = [event.data.type async for event in result.stream_events() if event.type[:3] == "raw"]
        return kinds, result.final_output

    kinds, said = LOOP.run(listen())
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert "response.function_call_arguments.done" in kinds
    assert said == run(one, ASKED).final_output


def an_answer_of_a_type():
    assert isinstance(run(agent("judge", output_type=Verdict), "Is it warm in Rome?").final_output, Verdict)


def one_agent_hands_over_to_another():
    judge = agent("judge", output_type=Verdict)
    result = run(agent("triage", must=True, handoffs=[judge]), "Is it warm in Rome?")
    assert result.last_agent is judge
    assert isinstance(result.final_output, Verdict)


def a_session_remembers():
    session = SQLiteSession("one")
    one = agent("plain")
    run(one, QUESTION, session=session)
    run(one, "And of Italy?", session=session)
    items = LOOP.run(session.get_items())
    assert [item["role"] for item in items] == ["user", "assistant"] * 2


main(
    [
        an_answer,
        the_loop_of_call_result_and_answer,
        the_loop_goes_on_with_items_sent_back,
        the_loop_goes_on_from_a_kept_response,
        a_streamed_loop_is_the_loop,
        an_answer_of_a_type,
        one_agent_hands_over_to_another,
        a_session_remembers,
    ],
    "openai-agents",
    "openai",
)
