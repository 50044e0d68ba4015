"""A request for a response in the engine's terms: that of the conversation which it continues."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from thermoscope.engine.request import Request
from thermoscope.errors import InvalidRequest, UpstreamFailed
from thermoscope.instruments.shape.settings import explain
from thermoscope.server.chat import request as chat
from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.drawing import check_stream
from thermoscope.server.responses.conversation import check_calls, messages, without_oldest
from thermoscope.server.responses.items import Item
from thermoscope.server.responses.schema import Asked, ResponsesRequest

if TYPE_CHECKING:
    from thermoscope.engine.steering import Steering
    from thermoscope.models.tokenizer import Tokenizer

Refused = TypeVar("Refused", bound="InvalidRequest | UpstreamFailed")
SAME_NAME = {
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "seed", "stop",
    "thermoscope", "parallel_tool_calls",
}  # fmt: skip
OWN_NAMES = (
    (r"^messages\b.*", "input"),
    (r"^(tools\[\d+\])\.function\b", r"\1"),
    (r"^response_format(\.json_schema)?\b", "text.format"),
    (r"^max_(completion_)?tokens$", "max_output_tokens"),
)


def engine_request(
    body: Asked,
    items: Sequence[Item],
    tokenizer: "Tokenizer",
    vectors: "Mapping[str, Steering]",
    context: int,
) -> Request:
    """What the engine is asked to do. Tokenizes the conversation, so it is not for the event loop.

    `items`: the whole conversation, what came before included. `context`: tokens that the engine can hold.
    """
    check(body, items)

    def asked(dropped: int) -> Request:
        rest = without_oldest(items, dropped)
        return chat.engine_request(validated(chat_fields(body, rest)), tokenizer, vectors)

    with own_names():
        whole = asked(0)
        if body.truncation != "auto":
            return whole
        room = context - (whole.sampling.max_tokens or context // 4)
        if len(whole.prompt) <= room:
            return whole
        fewest, most = 1, len(items) - 1  # to drop; the last item is what is asked
        while fewest < most:
            middle = (fewest + most) // 2
            fewest, most = (fewest, middle) if len(asked(middle).prompt) <= room else (middle + 1, most)
        return asked(most)


@contextmanager
def own_names() -> Iterator[None]:
    """Have errors that speak of a chat request's fields speak of the fields here."""
    try:
        yield
    except (InvalidRequest, UpstreamFailed) as error:
        raise renamed(error) from error


def renamed(error: Refused) -> Refused:
    """The same about the fields here."""
    param, message = error.param, str(error)
    for pattern, own in OWN_NAMES:
        if param:
            given, param = param, re.sub(pattern, own, param)
            message = message.replace(f"{given}:", f"{param}:", 1)
    message = re.sub(r"\bmax_(completion_)?tokens\b", "max_output_tokens", message)
    message = re.sub(r"\bresponse_format\b", "text.format", message)
    told = copy(error)
    told.param, told.args = param, (message,)
    return told


def chat_fields(body: Asked, items: Sequence[Item]) -> dict[str, Any]:
    """The same asked of a chat: its fields, those without a value left out, and no model's name yet."""
    fields: dict[str, Any] = {name: getattr(body, name, None) for name in SAME_NAME}
    fields["tools"] = None if body.tools is None else [tool.of_chat() for tool in body.tools]
    if body.text is not None and body.text.format is not None:
        fields["response_format"] = body.text.format.of_chat()
    choice = body.tool_choice
    fields["tool_choice"] = choice if choice is None or isinstance(choice, str) else choice.of_chat()
    if isinstance(body, ResponsesRequest):
        fields["max_completion_tokens"] = body.max_output_tokens
        if body.with_logprobs:
            fields |= {"logprobs": True, "top_logprobs": body.top_logprobs}
    given = {name: value for name, value in fields.items() if value is not None}
    return {"model": "", "messages": messages(items, body.instructions), **given}


def validated(chat: Mapping[str, Any]) -> ChatRequest:
    """A chat's fields, checked as a client's own would be.

    **Errors:** `InvalidRequest`.
    """
    try:
        return ChatRequest.model_validate(chat)
    except ValidationError as error:  # of a name, say, that an item may have and a message may not
        problem = error.errors()[0]
        message, param = explain(problem, problem["loc"])
        raise InvalidRequest(message, param=param) from None


def check(body: Asked, items: Sequence[Item]) -> None:
    """Refuse fields that make no sense together, and calls without outputs.

    **Errors:** `InvalidRequest`.
    """
    check_calls(items)
    if not isinstance(body, ResponsesRequest):
        return
    check_stream(body)
    if body.top_logprobs and not body.with_logprobs:
        raise InvalidRequest(
            "top_logprobs: got a number without logprobs; put message.output_text.logprobs into include.",
            param="top_logprobs",
        )
