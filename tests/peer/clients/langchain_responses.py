"""LangChain over /v1/responses: streams, calls, the loop, and answers of a schema."""

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from run import ADDRESS, MODEL, QUESTION, main


class Add(BaseModel):
    """Add two numbers."""

    a: int = Field(ge=0, le=99)
    b: int = Field(ge=0, le=99)


chat = ChatOpenAI(
    model=MODEL,
    base_url=f"{ADDRESS}/v1",
    api_key="none",
    use_responses_api=True,
    temperature=0.3,
    max_tokens=300,
    max_retries=0,
    extra_body={"seed": 3},
)
ASKED = HumanMessage("What is 2 + 3?")


def a_stream_is_the_answer():
    assert "".join(piece.text for piece in chat.stream(QUESTION)) == chat.invoke(QUESTION).text != ""


def a_streamed_call_is_the_call():
    bound = chat.bind_tools([Add], tool_choice="Add", parallel_tool_calls=False)
    whole = None
    for piece in bound.stream([ASKED]):
        whole = piece if whole is None else whole + piece
    (streamed,), (plain,) = whole.tool_calls, bound.invoke([ASKED]).tool_calls
    assert (streamed["name"], streamed["args"]) == (plain["name"], plain["args"])
    assert Add(**plain["args"])


def the_loop_of_call_result_and_answer():
    called = chat.bind_tools([Add], tool_choice="Add").invoke([ASKED])
    results = [ToolMessage("5", tool_call_id=call["id"]) for call in called.tool_calls]
    assert chat.invoke([ASKED, called, *results]).text.strip()


def a_conversation_goes_on_from_a_kept_response():
    first = chat.invoke(QUESTION)
    second = chat.invoke("And of Italy?", previous_response_id=first.response_metadata["id"])
    assert second.usage_metadata["input_tokens"] > first.usage_metadata["input_tokens"]


def an_answer_of_a_schema_by_a_call():
    assert isinstance(chat.with_structured_output(Add, method="function_calling").invoke("2 and 3"), Add)


def an_answer_of_a_schema_by_its_form():
    assert isinstance(chat.with_structured_output(Add, method="json_schema").invoke("2 and 3"), Add)


main(
    [
        a_stream_is_the_answer,
        a_streamed_call_is_the_call,
        the_loop_of_call_result_and_answer,
        a_conversation_goes_on_from_a_kept_response,
        an_answer_of_a_schema_by_a_call,
        an_answer_of_a_schema_by_its_form,
    ],
    "langchain-openai",
    "langchain-core",
    "openai",
)
