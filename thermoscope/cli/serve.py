"""`thermoscope serve`: the OpenAI API and the page."""

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thermoscope.cli import access, options
from thermoscope.cli import upstream as behind
from thermoscope.cli.terminal import print_json
from thermoscope.errors import InvalidRequest

if TYPE_CHECKING:
    from thermoscope.engine.steering import Steering


def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8000,
    alias: Annotated[
        list[str] | None,
        typer.Option("--alias", help="Another name that the model answers to, as gpt-4o; repeatable."),
    ] = None,
    steer: Annotated[
        list[str] | None,
        typer.Option(
            "--steer", metavar="NAME=FILE", help="A steering vector that requests may name; repeatable."
        ),
    ] = None,
    slots: Annotated[int, typer.Option("--slots", min=1, help="Answers at once; more wait.")] = 8,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            min=1,
            help="Tokens of an answer whose request names no limit; else what the context leaves.",
        ),
    ] = None,
    queue: Annotated[
        int,
        typer.Option("--queue", min=0, help="Answers that may wait for a slot; past it, requests get 429."),
    ] = 256,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0.001,
            metavar="S",
            help="Seconds for a request, from its arrival to its last token; inf for no limit.",
        ),
    ] = 600.0,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", min=0.0, metavar="S", help="Seconds for answers under way to end, at a stop."
        ),
    ] = 8.0,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            "--api-key",
            metavar="KEY|@FILE",
            help="A key that every request must show; @FILE has one on each line, and is seen by nobody who "
            "lists processes. Repeatable. Else THERMOSCOPE_API_KEY, where it is set.",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let other machines in without a key.")
    ] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin", help="A site whose pages may ask, as https://app.example, or *; repeatable."
        ),
    ] = None,
    keep_traces: Annotated[
        Path | None,
        typer.Option(
            "--keep-traces", metavar="FILE", help="Keep every trace that is asked for in this SQLite file."
        ),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option("--log-format", help="Of the lines on stderr, one for each request."),
    ] = "text",
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            help="A name that requests may address, beside localhost, --host and any IP address; repeatable.",
        ),
    ] = None,
    json: options.Json = False,
    model: options.Model = options.DEFAULT_MODEL,
    precision: options.Precision = None,
    context: options.Context = None,
    threads: options.Threads = None,
    upstream: behind.Url = None,
    upstream_model: behind.Model = None,
    upstream_key_file: behind.KeyFile = None,
    upstream_vocabulary: behind.Vocabulary = None,
) -> None:
    """Serve the OpenAI API and the page, until Ctrl-C."""
    from thermoscope.server.options import Options
    from thermoscope.server.serve import open_port
    from thermoscope.server.serve import serve as answer
    from thermoscope.server.traces.store import Traces

    aliases = [options.name("--alias", each) for each in alias or ()]
    hosts = [options.name("--allowed-host", each) for each in allowed_host or ()]
    keys = access.keys(api_key or ())
    told = Options(
        aliases=aliases,
        hosts=hosts,
        vectors=dict(_vector(pair) for pair in steer or ()),
        keys=keys,
        origins=[access.origin(given) for given in allow_origin or ()],
        keep_traces=keep_traces,
        log=log_format,
        max_tokens=max_tokens,
        queue=queue,
        timeout=timeout,
        grace=grace,
    )
    behind.check(ctx)
    if keep_traces is not None:  # before the slow work, as the port: what cannot be had is told at once
        Traces(keep_traces).close()
    with open_port(host, port) as probe:
        address = probe.getsockname()[0]
    if not keys and not insecure and not ipaddress.ip_address(address).is_loopback:
        raise InvalidRequest(
            f"--host: {host} is open to other machines, and anybody there could ask; "
            "take 127.0.0.1, or add --api-key @FILE, or --insecure."
        )
    if upstream is not None:
        from thermoscope.server.upstream.serve import serve as pass_on

        server = behind.connect(upstream, upstream_model, upstream_key_file, upstream_vocabulary)
        if json:
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            about = {"model": server.name, "aliases": aliases, "upstream": server.abilities.to_dict()}
            print_json({"url": url, **about}, indent=None)
        pass_on(server, host=host, port=port, options=told)
        return
    with options.load_model(
        model, precision=precision, context=context, threads=threads, slots=slots, progress=not json
    ) as loaded:
        if json:
            about = {"model": loaded.name, "aliases": aliases, "precision": loaded.precision}
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print_json({"url": url, **about, "context": loaded.context, "slots": slots}, indent=None)
        answer(loaded, host=host, port=port, options=told)


def _vector(pair: str) -> tuple[str, "Steering"]:
    """`formal=vectors/formal.gguf` as a name and what the file holds."""
    from thermoscope.engine.steering import load

    name, _, path = pair.partition("=")
    if not name or not path:
        raise InvalidRequest(f"--steer: got {pair!r}, expected a name and a file, as in formal=formal.gguf.")
    return options.text("--steer", name), load(Path(path))
