"""The addresses of the server, and who answers at each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.types import Scope

from thermoscope import __version__
from thermoscope.server import embeddings, errors, instruments
from thermoscope.server.chat import route as chat
from thermoscope.server.completions import route as completions
from thermoscope.server.fields import ErrorBody
from thermoscope.server.hosts import Hosts
from thermoscope.server.jobs import Jobs
from thermoscope.server.middleware import Exchange
from thermoscope.server.service import Service

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
    max_tokens: int | None = None,
) -> FastAPI:
    """The server of one loaded model, which answers to its own name and to its aliases.

    `hosts`: names that a Host header may have, as `Hosts` says; None for any, where no port is open.
    `vectors`: what answers may be steered by, by name. `max_tokens`: of an answer that names no limit.
    """
    service = Service(model, aliases, vectors, max_tokens)
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

    chat.install(app, service)
    completions.install(app, service)
    embeddings.install(app, service)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The loaded model, under each of its names."""
        return {"object": "list", "data": [service.card(name) for name in service.names]}

    @app.get("/v1/models/{name:path}")
    async def model_card(name: str) -> dict[str, Any]:
        """One name of the loaded model."""
        return service.card(service.known(name))

    app.state.jobs = Jobs(model)
    instruments.install(app, app.state.jobs)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """That the server stands, what it runs, and how busy it is."""
        runner = model.runner
        return {
            "status": "ok",
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
