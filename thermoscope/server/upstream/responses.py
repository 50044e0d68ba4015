"""Responses whose words another server says in a chat."""

import math
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from thermoscope.errors import InvalidRequest, UpstreamFailed
from thermoscope.server.responses import kept
from thermoscope.server.responses.items import Item
from thermoscope.server.responses.kept import ROOT
from thermoscope.server.responses.output import Event
from thermoscope.server.responses.request import chat_fields, check, own_names, renamed, validated
from thermoscope.server.responses.schema import ResponsesRequest
from thermoscope.server.responses.store import Store
from thermoscope.server.responses.telling import Telling
from thermoscope.server.stream import EITHER, Stream, named
from thermoscope.server.upstream.answer import Streamed, at_once, streamed
from thermoscope.server.upstream.service import Service

# Why an answer was cut, in a chat's words and in a response's.
CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


def install(app: FastAPI, service: Service) -> None:
    """Have the app answer requests for responses, and keep what was answered."""
    store = Store()

    @app.post(ROOT, response_model=None, responses=EITHER)
    async def create(body: ResponsesRequest, exchange: Request) -> Response:
        """Have the upstream answer a conversation, at once or as a stream of server-sent events."""
        service.known(body.model)
        items = store.conversation(body)

        async def keep(wording: Wording) -> bytes:
            whole = await run_in_threadpool(wording.kept, items)
            if body.store is not False:
                store.keep(wording.response["id"], whole)
            return whole.body

        with own_names():
            chat = await run_in_threadpool(_of_chat, body, items)
            if body.stream:
                answer = await streamed(service, "/chat/completions", chat, exchange)
                return Stream(_events(answer, Wording(body, answer.tag), keep), answer, named)
            wording = await at_once(
                service, "/chat/completions", chat, exchange, lambda answer: _whole(body, answer)
            )
        return Response(await keep(wording), media_type="application/json")

    kept.install(app, store)


class Wording(Telling):
    """One request's response, told of a chat's answer or of its pieces, as the client is to get them."""

    def __init__(self, body: ResponsesRequest, tag: dict[str, Any]) -> None:
        super().__init__(body, tag)
        self._usage: dict[str, Any] | None = None
        self._steps: list[dict[str, Any]] = []
        self._begun = False
        self._reason: str | None = None
        self._call: _Call | None = None

    def say(self, piece: Mapping[str, Any]) -> Iterator[Event]:
        """More of the answer, or all of it.

        **Errors:** `UpstreamFailed` for what is not in OpenAI's form.
        """
        try:
            if piece.get("usage") is not None:
                self._usage = _usage(piece["usage"])
            for choice in piece.get("choices") or ():
                if choice["index"] == 0:  # a response is one answer
                    yield from self._tell(self._told(choice))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UpstreamFailed(
                f"upstream: got an answer that cannot be read ({error!r}), expected OpenAI's form."
            ) from None

    def end(self) -> Iterator[Event]:
        """The answer is complete, or was cut off.

        **Errors:** `UpstreamFailed` where there was none.
        """
        if not self._begun:
            raise UpstreamFailed("upstream: got an answer without a choice, expected one.")
        if not self._output.items:  # an answer of no words is one
            yield from self._tell(self._output.say("", []))
        yield from self._close(CUT.get(self._reason or ""))

    def usage(self) -> dict[str, Any] | None:
        """Tokens read and drawn, where the other server said it."""
        return self._usage

    def steps(self) -> list[dict[str, Any]]:
        """What was seen of each token until now."""
        return self._steps

    def _told(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        self._begun = True
        if choice["finish_reason"] is not None:
            self._reason = str(choice["finish_reason"])
        self._steps += choice.get("thermoscope", {}).get("steps", ())
        whole = choice.get("message")
        said = whole or choice.get("delta") or {}
        tokens = (choice.get("logprobs") or {}).get("content") or []
        for token in (each for one in tokens for each in (one, *one["top_logprobs"])):
            token["bytes"] = token["bytes"] or []  # as responses have it
        text = (said.get("content") or "") + (said.get("refusal") or "")
        older = said.get("function_call")  # OpenAI's form before there were tools
        calls = said.get("tool_calls") or ([{"function": older}] if older else [])
        # White space beside a call, as some servers send, is not the call's end.
        if text.strip() or (self._call is None and (text or (tokens and not calls))):
            self._call = None
            yield from self._output.say(text, tokens)
        for call in calls:
            yield from self._called(call, whole=whole is not None)

    def _called(self, piece: Mapping[str, Any], *, whole: bool) -> Iterator[Event]:
        """A call or more of one. A name begins one, unless it only says the open one's again."""
        function = piece.get("function") or {}
        name, call = function.get("name"), _Call(piece.get("id") or None, piece.get("index"))
        if name and (whole or self._call is None or not call.continues(self._call)):
            if not (isinstance(name, str) and isinstance(call.id or "", str)):
                raise TypeError(f"a call's name {name!r} and id {call.id!r}")
            self._call = call
            yield from self._output.call(call.id or f"call_{uuid.uuid4().hex}", name)
        elif self._call is None or call.elsewhere(self._call):
            raise ValueError("a call without a name")
        yield from self._output.argue(function.get("arguments") or "")


class _Call(NamedTuple):
    """How a piece says which call it is of: servers tell them apart by an id, by an index, or not at all."""

    id: Any
    index: Any

    def continues(self, other: "_Call") -> bool:
        """Whether it is of the same call, by its id, or without one by its index."""
        if self.id is not None:
            return bool(self.id == other.id)
        return self.index is not None and bool(self.index == other.index)

    def elsewhere(self, other: "_Call") -> bool:
        """Whether it is of another call, by its index."""
        return self.index is not None and other.index is not None and bool(self.index != other.index)


def _whole(body: ResponsesRequest, answer: Mapping[str, Any]) -> Wording:
    wording = Wording(body, {key: answer[key] for key in ("thermoscope",) if key in answer})
    deque(wording.say(answer), maxlen=0)
    deque(wording.end(), maxlen=0)
    return wording


async def _events(
    answer: Streamed, wording: Wording, keep: Callable[[Wording], Awaitable[bytes]]
) -> AsyncIterator[Event]:
    for event in wording.begin():
        yield event
    try:
        async for piece in answer:
            for event in wording.say(piece):
                yield event
        last = list(wording.end())
    except Exception as error:  # the status is sent already: what went wrong travels as events
        answer.end(error)
        last = list(wording.fail(renamed(error) if isinstance(error, UpstreamFailed) else error))
    await keep(wording)  # first, so that whoever has read the end can ask for it
    for event in last:
        yield event


def _usage(counted: Mapping[str, Any]) -> dict[str, Any]:
    """A chat's `usage` as a response's."""
    of_read = counted.get("prompt_tokens_details") or {}
    of_drawn = counted.get("completion_tokens_details") or {}
    read, drawn = _count(counted.get("prompt_tokens")), _count(counted.get("completion_tokens"))
    cached, thought = _count(of_read.get("cached_tokens")), _count(of_drawn.get("reasoning_tokens"))
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": drawn,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": read + drawn,
    }


def _count(value: Any) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("a number of tokens that is none")
    return value


def _of_chat(body: ResponsesRequest, items: list[Item]) -> dict[str, Any]:
    """The chat that is asked of the other server."""
    check(body, items)
    if body.temperature == math.inf:
        raise InvalidRequest(
            "temperature: got 'inf', which JSON cannot send on; expected a number.", param="temperature"
        )
    if body.truncation == "auto":
        raise InvalidRequest(
            "truncation: got 'auto', expected 'disabled', for only the upstream can count its tokens; send "
            "fewer items.",
            param="truncation",
        )
    chat = chat_fields(body, items)
    validated(chat)
    if body.thermoscope is not None:
        chat["thermoscope"] = body.thermoscope.model_dump(exclude_none=True)
    for message in chat["messages"]:
        match message.get("content"):
            case [{"text": text}]:  # which every server understands, as not all do parts
                message["content"] = text
    counted = {"stream": True, "stream_options": {"include_usage": True}} if body.stream else {}
    return chat | {"model": body.model} | counted
