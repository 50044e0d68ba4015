"""Conversations, prompts and texts to embed that another server answers."""

from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from thermoscope.server.stream import Stream
from thermoscope.server.upstream.answer import at_once, streamed
from thermoscope.server.upstream.request import Address
from thermoscope.server.upstream.service import Service

Fields = Annotated[dict[str, Any], Body(description="As OpenAI has it; the upstream judges each field.")]


def install(app: FastAPI, service: Service) -> None:
    """Have the app pass on what it is asked, and what is answered."""

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: Fields, exchange: Request) -> Response:
        """Have the upstream answer a conversation, at once or as a stream of server-sent events."""
        return await _answer(service, "/chat/completions", body, exchange)

    @app.post("/v1/completions", response_model=None)
    async def completions(body: Fields, exchange: Request) -> Response:
        """Have the upstream go on with a prompt, at once or as a stream of server-sent events."""
        return await _answer(service, "/completions", body, exchange)

    @app.post("/v1/embeddings", response_model=None)
    async def embeddings(body: Fields, exchange: Request) -> Response:
        """Have the upstream embed texts, in whichever way it does that."""
        return await at_once(service, "/embeddings", body, exchange, JSONResponse)


async def _answer(service: Service, address: Address, body: dict[str, Any], exchange: Request) -> Response:
    if body.get("stream"):
        answer = await streamed(service, address, body, exchange)
        return Stream(aiter(answer), answer)
    return await at_once(service, address, body, exchange, JSONResponse)
