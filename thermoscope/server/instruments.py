"""The instruments over HTTP: an address each, and jobs for readings that take long."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from thermoscope import instruments
from thermoscope.errors import InvalidRequest, ReadingCancelled
from thermoscope.instruments import Instrument
from thermoscope.instruments.shape.reading import Reading
from thermoscope.instruments.shape.settings import Settings
from thermoscope.instruments.shape.source import File
from thermoscope.server import errors
from thermoscope.server.body import parse_object
from thermoscope.server.jobs import Job, Jobs, describe
from thermoscope.server.stream import HEADERS

ROOT = "/v1/instruments"
Figures = Query(False, description="Put the figures in, in Plotly's JSON form.")
Background = Query(False, description="Answer at once with a job, to be asked for at its own address.")


def install(app: FastAPI, jobs: Jobs) -> None:
    """Give every instrument its address."""

    @app.get(ROOT)
    async def list_instruments() -> dict[str, Any]:
        """Every instrument: what it answers, and what it may be asked, as JSON schema."""
        every = [instruments.instrument(name).describe() for name in instruments.names()]
        return {"object": "list", "data": every}

    @app.get(ROOT + "/jobs/{job}")
    async def job(job: str, figures: bool = Figures) -> Response:
        """Where a reading stands, and the reading itself once it is complete."""
        return await run_in_threadpool(lambda: JSONResponse(_whole(jobs.get(job), figures)))

    @app.get(ROOT + "/jobs/{job}/events")
    async def events(job: str, figures: bool = Figures) -> Response:
        """A reading's progress as server-sent events; the last one has the reading, or what went wrong."""
        return EventSourceResponse(_events(jobs.get(job), figures), headers=HEADERS)

    @app.delete(ROOT + "/jobs/{job}")
    async def delete(job: str) -> dict[str, Any]:
        """Call a reading off."""
        found = jobs.get(job)
        jobs.cancel(found)
        return describe(found)

    @app.get(ROOT + "/{card}")
    async def card(card: str) -> dict[str, Any]:
        """One instrument."""
        return instruments.instrument(card).describe()

    for name in instruments.names():
        _install(app, instruments.instrument(name), jobs)

    @app.post(ROOT + "/{card}", include_in_schema=False)
    async def unknown(card: str) -> None:
        instruments.instrument(card)  # says which ones there are


def _install(app: FastAPI, instrument: Instrument, jobs: Jobs) -> None:
    address = f"{ROOT}/{instrument.name}"
    own = f"#/paths/{address.replace('/', '~1')}/post/requestBody/content/application~1json/schema/$defs"
    schema = instrument.settings.model_json_schema(ref_template=f"{own}/{{model}}")
    body = {"application/json": {"schema": schema}}

    @app.post(
        address,
        name=instrument.name,
        summary=instrument.question,
        description=instrument.summary,
        responses={202: {"description": "A job, to be asked for at its own address."}},
        openapi_extra={"requestBody": {"content": body, "required": True}},
    )
    async def read(exchange: Request, background: bool = Background, figures: bool = Figures) -> Response:
        settings = await _settings(exchange, instrument.settings)
        job = jobs.submit(instrument, settings, background=background)
        if background:
            where = {"Location": f"{ROOT}/jobs/{job.id}"}
            return JSONResponse(describe(job), 202, where)
        try:
            reading = await _waited(exchange, job)
        finally:
            jobs.cancel(job)
        return await run_in_threadpool(lambda: JSONResponse(_plain(reading, figures)))


async def _settings(exchange: Request, settings: type[Settings]) -> Settings:
    """The settings in a body: JSON; or a form with a part `settings` in JSON, and files under their names."""
    kind = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        _check_origin(exchange)
        return settings.parse(await _form(exchange))
    if kind != "application/json":
        raise InvalidRequest(
            f"body: got Content-Type {kind or 'none'}, expected application/json, or multipart/form-data."
        )
    return settings.parse(parse_object(await exchange.body()))


async def _form(exchange: Request) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    async with exchange.form(max_files=8, max_fields=8) as form:
        for name, part in form.multi_items():
            data = await part.read() if isinstance(part, UploadFile) else part.encode()
            if name == "settings":
                plain = parse_object(data) | plain
            elif isinstance(part, UploadFile):
                plain[name] = File(name=part.filename or name, data=data)
            else:
                raise InvalidRequest(f"{name}: got text, expected a file; put it into settings.", param=name)
    return plain


def _check_origin(exchange: Request) -> None:
    """Refuse a form from another site's page: browsers send those without asking first."""
    origin = exchange.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != exchange.headers.get("host"):
        raise InvalidRequest(f"origin: got a form from {origin}, expected one from this server's own pages.")


async def _waited(exchange: Request, job: Job) -> Reading:
    """The reading, once it is taken; a client that goes away calls it off."""

    async def watch() -> None:
        while (await exchange.receive())["type"] != "http.disconnect":
            pass

    watcher = asyncio.create_task(watch())
    taken = asyncio.wrap_future(job.outcome)
    try:
        await asyncio.wait((watcher, taken), return_when=asyncio.FIRST_COMPLETED)
        if not taken.done():
            raise errors.ClientGoneError
        if taken.cancelled():
            raise ReadingCancelled("reading: it was cancelled.")
        return taken.result()
    finally:
        watcher.cancel()
        taken.cancel()


def _plain(reading: Reading, figures: bool) -> dict[str, Any]:
    drawn = {figure.name: figure.to_dict() for figure in reading.figures}
    return reading.to_dict() | ({"figures": drawn} if figures else {})


def _whole(job: Job, figures: bool) -> dict[str, Any]:
    """A job with what came of it."""
    plain = describe(job) | {"reading": None, "error": None}
    if job.outcome.done():
        if isinstance(job.error, Exception):
            _, problem = errors.describe(job.error)
            plain |= problem
        else:
            plain["reading"] = _plain(job.outcome.result(), figures)
    return plain


async def _events(job: Job, figures: bool) -> AsyncIterator[bytes]:
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    stop = job.listen(lambda: loop.call_soon_threadsafe(changed.set))
    try:
        while not job.outcome.done():
            yield format_sse_event(data_str=json.dumps(describe(job)), event="progress")
            await changed.wait()
            changed.clear()
        whole = await run_in_threadpool(lambda: json.dumps(_whole(job, figures), allow_nan=False))
        yield format_sse_event(data_str=whole, event=job.status)
    finally:
        stop()
