"""Responses whose words another server says in a chat."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from thermoscope.errors import InvalidRequest, UpstreamFailed
from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.responses import kept
from thermoscope.server.responses.items import Item
from thermoscope.server.responses.kept import ROOT
from thermoscope.server.responses.output import Event
from thermoscope.server.responses.request import chat_fields, check, own_names
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

        def keep(wording: Wording) -> bytes:
            whole = wording.kept(items)
            if body.store is not False:
                store.keep(wording.response["id"], whole)
            return whole.body

        with own_names():
            chat = await run_in_threadpool(_of_chat, body, items)
            if body.stream:
                answer = await streamed(service, "/chat/completions", chat)
                return Stream(_events(answer, Wording(body, answer.tag), keep), answer, named)
            said = await at_once(service, "/chat/completions", chat, exchange)
        wording = Wording(body, {key: said[key] for key in ("thermoscope",) if key in said})
        deque(wording.say(said), maxlen=0)
        deque(wording.end(), maxlen=0)
        return Response(keep(wording), media_type="application/json")

    kept.install(app, store)


class Wording(Telling):
    """One request's response, told of a chat's answer or of its pieces, as the client is to get them."""

    def __init__(self, body: ResponsesRequest, tag: dict[str, Any]) -> None:
        super().__init__(body, tag)
        self._read: dict[str, Any] | None = None
        self._steps: list[dict[str, Any]] = []
        self._reason: str | None = None
        self._call: int | None = None

    def say(self, piece: Mapping[str, Any]) -> Iterator[Event]:
        """More of the answer, or all of it.

        **Errors:** `UpstreamFailed` for what is not in OpenAI's form.
        """
        try:
            self._read = piece.get("usage") or self._read
            for choice in piece.get("choices") or ():
                self._reason = choice["finish_reason"] or self._reason
                self._steps += choice.get("thermoscope", {}).get("steps", ())
                yield from self._tell(self._told(choice))
        except (AttributeError, KeyError, TypeError) as error:
            raise UpstreamFailed(
                f"upstream: got an answer that cannot be read ({error!r}), expected OpenAI's form."
            ) from None

    def end(self) -> Iterator[Event]:
        """The answer is complete, or was cut off."""
        if not self._output.items:  # an answer of no words is one
            yield from self._tell(self._output.say("", []))
        yield from self._close(CUT.get(self._reason or ""))

    def usage(self) -> dict[str, Any] | None:
        """Tokens read and drawn, where the other server said it."""
        if self._read is None:
            return None
        read, drawn = self._read.get("prompt_tokens") or 0, self._read.get("completion_tokens") or 0
        of_read = self._read.get("prompt_tokens_details") or {}
        of_drawn = self._read.get("completion_tokens_details") or {}
        return {
            "input_tokens": read,
            "input_tokens_details": {
                "cached_tokens": of_read.get("cached_tokens") or 0, "cache_write_tokens": 0
            },
            "output_tokens": drawn,
            "output_tokens_details": {"reasoning_tokens": of_drawn.get("reasoning_tokens") or 0},
            "total_tokens": read + drawn,
        }  # fmt: skip

    def steps(self) -> list[dict[str, Any]]:
        """What was seen of each token until now."""
        return self._steps

    def _told(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        said = choice.get("message") or choice.get("delta") or {}
        tokens = (choice.get("logprobs") or {}).get("content") or []
        for token in (each for one in tokens for each in (one, *one["top_logprobs"])):
            token["bytes"] = token["bytes"] or []  # as responses have it
        calls = said.get("tool_calls") or ()
        if text := said.get("content") or said.get("refusal") or "":
            yield from self._output.say(text, tokens)
        elif tokens and not calls and self._call is None:
            yield from self._output.say("", tokens)
        for at, call in enumerate(calls):
            index, function = call.get("index", at), call.get("function") or {}
            if index != self._call:  # some servers repeat a call's name and id in every piece
                if self._call is not None and index < self._call:
                    raise KeyError(f"a piece of call {index} after call {self._call}")
                self._call = index
                yield from self._output.call(call["id"], function["name"])
            yield from self._output.argue(function.get("arguments") or "")


async def _events(
    answer: Streamed, wording: Wording, keep: Callable[[Wording], bytes]
) -> AsyncIterator[Event]:
    for event in wording.begin():
        yield event
    try:
        async for piece in answer:
            for event in wording.say(piece):
                yield event
        last = list(wording.end())
    except Exception as error:  # the status is sent already: what went wrong travels as events
        last = list(wording.fail(error))
    keep(wording)  # first, so that whoever has read the end can ask for it
    for event in last:
        yield event


def _of_chat(body: ResponsesRequest, items: list[Item]) -> dict[str, Any]:
    """The chat that is asked of the other server."""
    check(body, items)
    if body.truncation == "auto":
        raise InvalidRequest(
            "truncation: got 'auto', expected 'disabled', for only the upstream can count its tokens; send "
            "fewer items.",
            param="truncation",
        )
    chat = chat_fields(body, items)
    ChatRequest.model_validate(chat)
    if body.thermoscope is not None:
        chat["thermoscope"] = body.thermoscope.model_dump(exclude_none=True)
    for message in chat["messages"]:
        match message.get("content"):
            case [{"text": text}]:  # which every server understands, as not all do parts
                message["content"] = text
    counted = {"stream": True, "stream_options": {"include_usage": True}} if body.stream else {}
    return chat | {"model": body.model} | counted
