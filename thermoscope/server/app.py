"""The addresses of the server, and who answers at each."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from thermoscope import __version__
from thermoscope.errors import ModelNotFound
from thermoscope.server import errors, instruments
from thermoscope.server.answers import Answers, client_of
from thermoscope.server.chat import Wording, engine_request
from thermoscope.server.hosts import Hosts
from thermoscope.server.jobs import Jobs
from thermoscope.server.middleware import Exchange
from thermoscope.server.schemas import ChatRequest, ErrorBody
from thermoscope.server.stream import Stream

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.steering import Steering

WEB = Path(__file__).parent.parent / "web"
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",  # ask again after an update; the file's tag makes that cheap
}


def create_app(
    model: "LanguageModel",
    aliases: Sequence[str] = (),
    hosts: Sequence[str] | None = None,
    vectors: "Mapping[str, Steering] | None" = None,
) -> FastAPI:
    """The server of one loaded model, which answers to its own name and to its aliases.

    `hosts`: names that a Host header may have, as `Hosts` says; None for any, where no port is open.
    `vectors`: what answers may be steered by, by name.
    """
    names = list(dict.fromkeys([model.name, *aliases]))
    started = int(time.time())
    app: FastAPI = FastAPIOffline(
        title="Thermoscope",
        summary="A language model behind the OpenAI API, every token's step in sight.",
        version=__version__,
        responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
    )
    if hosts is not None:
        app.add_middleware(Hosts, names=hosts)
    app.add_middleware(Exchange)  # added last, so that it sees a request first
    errors.install(app)

    def known(name: str) -> str:
        if name not in names:
            raise ModelNotFound(
                f"The model {name!r} is not loaded here; expected {' or '.join(names)}. "
                f"To give it another name, start the server with --alias."
            )
        return name

    def card(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": started, "owned_by": "thermoscope"}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, exchange: Request) -> Response:
        """Answer a conversation, at once or as a stream of server-sent events."""
        known(body.model)
        client = client_of(exchange, body.safety_identifier or body.user)
        request = await run_in_threadpool(engine_request, body, model.tokenizer, vectors, client)
        answers = Answers(model.runner, request)
        wording = Wording(body, request, model)
        if body.stream:
            return Stream(body, answers, wording)
        traces = await answers.traces(exchange)
        return JSONResponse(await run_in_threadpool(wording.completion, traces))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The loaded model, under each of its names."""
        return {"object": "list", "data": [card(name) for name in names]}

    @app.get("/v1/models/{name:path}")
    async def model_card(name: str) -> dict[str, Any]:
        """One name of the loaded model."""
        return card(known(name))

    app.state.jobs = Jobs(model)
    instruments.install(app, app.state.jobs)

    @app.get("/health")
    async def health(response: Response) -> dict[str, Any]:
        """That the server stands, what it runs, and how busy it is; 503 while it is stopping."""
        runner = model.runner
        response.status_code = 503 if runner.closed else 200
        return {
            "status": "stopping" if runner.closed else "ok",
            "model": model.name,
            "precision": model.precision,
            "context": model.context,
            "slots": runner.slots,
            "running": runner.running,
            "waiting": runner.waiting,
        }

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html", headers=PAGE_HEADERS)

    app.mount("/web", _PageFiles(directory=WEB), name="web")
    return app


class _PageFiles(StaticFiles):
    """The page's files, under the page's own strict policy."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        return response
