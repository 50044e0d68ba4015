"""LangChain: messages, streams, tools, and answers of a schema."""

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from run import ADDRESS, MODEL, QUESTION, main


@tool
def get_weather(city: str, days: int) -> str:
    """The weather in a city for some days."""
    return f"{city}: 21 degrees for {days} days"


class Capital(BaseModel):
    """A country's capital."""

    name: str = Field(max_length=40)
    country: str = Field(max_length=40)


chat = ChatOpenAI(
    model=MODEL,
    base_url=f"{ADDRESS}/v1",
    api_key="none",
    temperature=0.7,
    seed=3,
    max_tokens=300,
    max_retries=0,
)
ASKED = HumanMessage("What is the weather in Paris for the next 3 days?")


def an_answer():
    answer = chat.invoke(QUESTION)
    assert answer.content.strip()
    assert answer.usage_metadata["output_tokens"] > 0


def a_stream_is_the_answer():
    pieces = [piece.content for piece in chat.stream(QUESTION)]
    assert len(pieces) > 3
    assert "".join(pieces) == chat.invoke(QUESTION).content


def a_call():
    answer = chat.bind_tools([get_weather], tool_choice="get_weather").invoke([ASKED])
    (call,) = answer.tool_calls
    assert call["name"] == "get_weather"
    assert isinstance(call["args"]["city"], str)
    assert isinstance(call["args"]["days"], int)


def a_streamed_call_has_one_name():
    bound = chat.bind_tools([get_weather], tool_choice="required", parallel_tool_calls=False)
    whole = None
    for piece in bound.stream([ASKED]):
        whole = piece if whole is None else whole + piece
    (call,) = whole.tool_calls
    assert call["name"] == "get_weather"
    assert call["id"].startswith("call_")
    assert not whole.invalid_tool_calls


def the_loop_of_call_result_and_answer():
    bound = chat.bind_tools([get_weather], tool_choice="required", parallel_tool_calls=False)
    called = bound.invoke([ASKED])
    (call,) = called.tool_calls
    result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    answer = chat.bind_tools([get_weather], tool_choice="none").invoke([ASKED, called, result])
    assert answer.content.strip()


def an_answer_of_a_schema_by_a_call():
    assert isinstance(
        chat.with_structured_output(Capital, method="function_calling").invoke(QUESTION), Capital
    )


def an_answer_of_a_schema_by_response_format():
    assert isinstance(chat.with_structured_output(Capital, method="json_schema").invoke(QUESTION), Capital)


main(
    [
        an_answer,
        a_stream_is_the_answer,
        a_call,
        a_streamed_call_has_one_name,
        the_loop_of_call_result_and_answer,
        an_answer_of_a_schema_by_a_call,
        an_answer_of_a_schema_by_response_format,
    ],
    "langchain-openai",
    "langchain-core",
    "openai",
)
