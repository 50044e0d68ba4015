"""The addresses of the server, and who answers at each."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from thermoscope.server import embeddings, instruments, names
from thermoscope.server.chat import route as chat
from thermoscope.server.completions import route as completions
from thermoscope.server.frame import frame
from thermoscope.server.jobs import Jobs
from thermoscope.server.metrics import CONTENT_TYPE
from thermoscope.server.options import DEFAULTS, Options
from thermoscope.server.responses import route as responses
from thermoscope.server.service import Service
from thermoscope.server.traces import route as traces

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel

WEB = Path(__file__).parent.parent / "web"
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",  # ask again after an update; the file's tag makes that cheap
}


def create_app(model: "LanguageModel", options: Options = DEFAULTS) -> FastAPI:
    """The server of one loaded model."""
    service = Service(model, options)
    app = frame(options, "A language model behind the OpenAI API, every token's step in sight.")
    chat.install(app, service)
    completions.install(app, service)
    embeddings.install(app, service)
    responses.install(app, service)
    traces.install(app, service.traces)
    app.state.traces = service.traces

    names.install(app, service)
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

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """What was counted, for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

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
