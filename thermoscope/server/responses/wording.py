"""A response as OpenAI's clients know it, and the events that lead up to it."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from thermoscope.engine.request import Request
from thermoscope.engine.trace import Step, Trace
from thermoscope.server.errors import describe
from thermoscope.server.fields import Body
from thermoscope.server.logprobs import logprobs
from thermoscope.server.responses.items import Item, new_id
from thermoscope.server.responses.output import Event, Output
from thermoscope.server.responses.schema import ResponsesRequest
from thermoscope.server.responses.store import Kept
from thermoscope.server.tools.reader import (
    Arguments,
    CallBegins,
    CallReader,
    Content,
    Piece,
    TextReader,
)

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel


class Wording:
    """One request's response, from its first event to its last. `response` is how it stands.

    `tag`: what it says from the beginning on, under which id a trace is kept.
    """

    def __init__(
        self, body: ResponsesRequest, request: Request, model: "LanguageModel", tag: dict[str, Any]
    ) -> None:
        self._body = body
        self._tokenizer = model.tokenizer
        self._prompt_tokens = len(request.prompt)
        self._cached_tokens = 0
        self._output = Output()
        self._reader = CallReader(self._tokenizer.call_format) if body.with_calls else TextReader()
        self._called = False
        self._steps: list[Step] = []
        self._unsaid: list[Step] = []  # the last of them, which no text has come of yet
        self._sequence = 0
        self.response: dict[str, Any] = _head(body) | tag | {"output": self._output.items}

    def begin(self) -> Iterator[Event]:
        """That there is a response, and that it is under way."""
        for kind in ("created", "in_progress"):
            yield self._numbered(self._standing(kind))

    def say(self, text: str, steps: Sequence[Step]) -> Iterator[Event]:
        """More of the answer."""
        self._steps += steps
        self._unsaid += steps
        yield from map(self._numbered, self._told(self._reader.push(text)))

    def end(self, trace: Trace, seen: dict[str, Any]) -> Iterator[Event]:
        """The answer is complete, or was cut off at its limit. `seen`: what stands beside it."""
        self._cached_tokens = trace.cached_tokens
        self._beside(seen)
        yield from map(self._numbered, self._told(self._reader.push("", last=True)))
        if not self._called:  # the tokens that brought no text of their own; and an answer of no words is one
            yield from map(self._numbered, self._output.say("", self._logprobs()))
        status = "incomplete" if trace.finish_reason == "length" else "completed"
        yield from map(self._numbered, self._output.close(status))
        self._finish(status)
        if status == "incomplete":
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self.response["completed_at"] = int(time.time())
        yield self._numbered(self._standing(status))

    def whole(self, trace: Trace, seen: dict[str, Any]) -> None:
        """The answer at once; nobody listens to how it came about."""
        shown = len(trace.text)  # a stop string, and what came after it, are cut from the end
        for step in trace.steps:
            deque(self.say(step.text[:shown], [step]), maxlen=0)
            shown -= len(step.text[:shown])
        deque(self.end(trace, seen), maxlen=0)

    def fail(self, error: Exception) -> Iterator[Event]:
        """What went wrong, once nothing else can be told."""
        _, problem = describe(error)
        problem = problem["error"]
        told = {"code": problem["code"], "message": problem["message"], "param": problem["param"]}
        yield self._numbered({"type": "error", **told})
        deque(self._output.close("incomplete"), maxlen=0)
        self._finish("failed")
        self.response["error"] = {"code": "server_error", "message": problem["message"]}
        yield self._numbered(self._standing("failed"))

    def kept(self, read: list[Item]) -> Kept:
        """What there is to keep of it, once it is complete; `read`: what it answers to."""
        return Kept(
            bytes(JSONResponse(self.response).body), read, [_plain(said) for said in self._output.items]
        )

    def _finish(self, status: str) -> None:
        self.response |= {"status": status, "usage": self._usage()}
        if self._body.with_steps:
            self._beside({"steps": [step.to_dict() for step in self._steps]})

    def _beside(self, seen: dict[str, Any]) -> None:
        if seen:
            self.response["thermoscope"] = self.response.get("thermoscope", {}) | seen

    def _told(self, pieces: Iterable[Piece]) -> Iterator[Event]:
        """The events of what was read. Tokens belong to the text behind them, those of a call to none."""
        for piece in pieces:
            match piece:
                case Content():
                    yield from self._output.say(piece.text, self._logprobs())
                case CallBegins():
                    self._called = True
                    yield from self._output.call(piece.id, piece.name)
                case Arguments():
                    yield from self._output.argue(piece.text)
            self._unsaid.clear()

    def _standing(self, kind: str) -> Event:
        return {"type": f"response.{kind}", "response": self.response | {"output": list(self._output.items)}}

    def _numbered(self, event: Event) -> Event:
        self._sequence += 1
        return event | {"sequence_number": self._sequence - 1}

    def _usage(self) -> dict[str, Any]:
        return {
            "input_tokens": self._prompt_tokens,
            "input_tokens_details": {"cached_tokens": self._cached_tokens, "cache_write_tokens": 0},
            "output_tokens": len(self._steps),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self._prompt_tokens + len(self._steps),
        }

    def _logprobs(self) -> list[dict[str, Any]]:
        """As a completion has them, but that a token without bytes has an empty list of them."""
        if not self._body.with_logprobs:
            return []
        best = self._body.all_alternatives or self._body.top_logprobs or 0
        items = logprobs(self._unsaid, self._tokenizer, best)
        for token in (each for one in items for each in (one, *one["top_logprobs"])):
            token["bytes"] = token["bytes"] or []
        return items


def _plain(said: Item) -> Item:
    """What was said, without how likely it was: so it is read again."""
    if said["type"] != "message":
        return said
    return said | {"content": [part | {"logprobs": []} for part in said["content"]]}


def _head(body: ResponsesRequest) -> dict[str, Any]:
    """A response that has just begun: what was asked for, defaults spelled out."""
    temperature = 1.0 if body.temperature is None else body.temperature
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": body.model,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "presence_penalty": body.presence_penalty or 0.0,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": "inf" if temperature == float("inf") else temperature,
        "text": {"format": _given(body.text and body.text.format) or {"type": "text"}, "verbosity": "medium"},
        "tool_choice": _given(body.tool_choice) or "auto",
        "tools": [tool.plain() for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None,
        "user": body.user,
    }


def _given(value: Any) -> Any:
    """A field as it came: a word, or an object."""
    return value.model_dump(exclude_none=True, by_alias=True) if isinstance(value, Body) else value
