"""A response while it comes about, and the events that tell of it, whoever its words come from."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi.responses import JSONResponse

from thermoscope.server.errors import describe
from thermoscope.server.fields import Body
from thermoscope.server.responses.items import Item, new_id
from thermoscope.server.responses.output import Event, Output
from thermoscope.server.responses.schema import ResponsesRequest
from thermoscope.server.responses.store import Kept


class Telling(ABC):
    """One request's response, from its first event to its last. `response` is how it stands.

    `tag`: what it says from the beginning on, under which id a trace is kept.
    """

    def __init__(self, body: ResponsesRequest, tag: dict[str, Any]) -> None:
        self._body = body
        self._output = Output()
        self._sequence = 0
        self.response: dict[str, Any] = _head(body) | tag | {"output": self._output.items}

    @abstractmethod
    def usage(self) -> dict[str, Any] | None:
        """Tokens read and drawn until now; None where nobody said."""

    @abstractmethod
    def steps(self) -> list[dict[str, Any]]:
        """What was seen of each token until now."""

    def begin(self) -> Iterator[Event]:
        """That there is a response, and that it is under way."""
        for kind in ("created", "in_progress"):
            yield from self._tell([self._standing(kind)])

    def fail(self, error: Exception) -> Iterator[Event]:
        """What went wrong, once nothing else can be told."""
        _, problem = describe(error)
        problem = problem["error"]
        told = {"code": problem["code"], "message": problem["message"], "param": problem["param"]}
        yield from self._tell([{"type": "error", **told}])
        deque(self._output.close("incomplete"), maxlen=0)
        self._finish("failed")
        self.response["error"] = {"code": "server_error", "message": problem["message"]}
        yield from self._tell([self._standing("failed")])

    def kept(self, read: list[Item]) -> Kept:
        """What there is to keep of it, once it is complete; `read`: what it answers to."""
        return Kept(
            bytes(JSONResponse(self.response).body), read, [_plain(said) for said in self._output.items]
        )

    def _tell(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events, numbered."""
        for event in events:
            self._sequence += 1
            yield event | {"sequence_number": self._sequence - 1}

    def _close(self, cut: str | None) -> Iterator[Event]:
        """The answer is complete; or was cut, and why."""
        status = "incomplete" if cut else "completed"
        yield from self._tell(self._output.close(status))
        self._finish(status)
        if cut:
            self.response["incomplete_details"] = {"reason": cut}
        else:
            self.response["completed_at"] = int(time.time())
        yield from self._tell([self._standing(status)])

    def _finish(self, status: str) -> None:
        self.response |= {"status": status, "usage": self.usage()}
        if self._body.with_steps:
            self._beside({"steps": self.steps()})

    def _beside(self, seen: dict[str, Any]) -> None:
        if seen:
            self.response["thermoscope"] = self.response.get("thermoscope", {}) | seen

    def _standing(self, kind: str) -> Event:
        return {"type": f"response.{kind}", "response": self.response | {"output": list(self._output.items)}}


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
