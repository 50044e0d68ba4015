"""`thermoscope serve`: the OpenAI API and the page."""

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thermoscope.cli import options
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
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let other machines in: there is no authentication yet.")
    ] = False,
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

    aliases = [options.text("--alias", name) for name in alias or ()]
    hosts = [options.text("--allowed-host", name) for name in allowed_host or ()]
    told = Options(
        aliases=aliases,
        hosts=hosts,
        vectors=dict(_vector(pair) for pair in steer or ()),
        queue=queue,
        timeout=timeout,
        grace=grace,
    )
    with open_port(host, port) as probe:  # before the slow work: a port that is taken is told at once
        address = probe.getsockname()[0]
    if not insecure and not ipaddress.ip_address(address).is_loopback:
        raise InvalidRequest(
            f"--host: {host} is open to other machines, and there is no authentication yet; "
            "take 127.0.0.1, or add --insecure."
        )
    if upstream is not None:
        from thermoscope.server.upstream.serve import serve as pass_on

        behind.check_alone(ctx)
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
