"""A chat request in the engine's terms."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from thermoscope.engine.request import Request
from thermoscope.errors import InvalidRequest
from thermoscope.server.chat.conversation import conversation
from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.drawing import check_stream, sampling, steering, timeout
from thermoscope.server.forms import form
from thermoscope.server.logprobs import alternatives, check_size
from thermoscope.server.tools.grammar import answer_grammar

if TYPE_CHECKING:
    from thermoscope.engine.steering import Steering
    from thermoscope.models.tokenizer import Tokenizer


def engine_request(body: ChatRequest, tokenizer: "Tokenizer", vectors: "Mapping[str, Steering]") -> Request:
    """What the engine is asked to do. Tokenizes the conversation, so it is not for the event loop.

    `vectors`: those that an answer may be steered by, under the names that requests know them by.
    """
    _check_pairs(body)
    offer = body.offer
    said = form(body, body.response_format)
    if offer is not None and said is not None and said.kind != "json_schema":
        raise InvalidRequest(
            "thermoscope.grammar: got one beside tools, expected one of the two; set tool_choice to none, or "
            "leave it out.",
            param="thermoscope.grammar",
        )
    # The grammar is first, since it refuses parameters that a template would only fail on.
    grammar = said if offer is None else answer_grammar(offer, tokenizer, said)
    prompt = tokenizer.chat(conversation(body.messages), () if offer is None else offer.told)
    check_size("thermoscope.prompt_logprobs", body.prompt_alternatives or 0, len(prompt))
    steered = steering(body, vectors)
    return Request(
        prompt=prompt,
        sampling=sampling(body, max_tokens=body.max_completion_tokens),
        steer=() if steered is None else steered.interventions(len(prompt)),
        timeout=timeout(body),
        record=bool(body.logprobs) or body.with_records,
        alternatives=alternatives(body, shown=bool(body.logprobs)),
        grammar=grammar,
        shown=frozenset() if offer is None else frozenset(tokenizer.call_marks.values()),
    )


def _check_pairs(body: ChatRequest) -> None:
    """Refuse fields that make no sense together."""
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest(
            "top_logprobs: got a number without logprobs; set logprobs to true.", param="top_logprobs"
        )
    if body.top_logprobs is not None and body.all_alternatives is not None:
        raise InvalidRequest(
            "top_logprobs: got thermoscope.top_logprobs as well, which has no upper end; leave one out.",
            param="top_logprobs",
        )
    check_stream(body)
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidRequest(
            "max_tokens: got max_completion_tokens as well, which means the same; leave one out.",
            param="max_tokens",
        )
