"""`thermoscope serve --upstream`: the options that say which server, and those that it leaves no room for."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thermoscope.errors import InvalidRequest

if TYPE_CHECKING:
    from thermoscope.upstream.upstream import Upstream

KEY = "THERMOSCOPE_UPSTREAM_KEY"
LOCAL = (
    "model",
    "precision",
    "context",
    "threads",
    "slots",
    "steer",
    "queue",
    "timeout",
    "max_tokens",
)
FAR = ("upstream_model", "upstream_key_file", "upstream_vocabulary")

_PANEL = "Another server as the engine"
Url = Annotated[
    str | None,
    typer.Option(
        "--upstream",
        metavar="URL",
        help="Stand before this server instead of loading a model: vLLM, SGLang, llama.cpp or any other with "
        "OpenAI's API.",
        rich_help_panel=_PANEL,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--upstream-model", help="Which of its models, where it has several.", rich_help_panel=_PANEL
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--upstream-key-file",
        metavar="FILE",
        help=f"A file with the key that it asks for; or the variable {KEY}.",
        rich_help_panel=_PANEL,
    ),
]
Vocabulary = Annotated[
    int | None,
    typer.Option(
        "--upstream-vocabulary",
        min=1,
        metavar="TOKENS",
        help="How many tokens its model has, where it does not say so: upper bounds need it.",
        rich_help_panel=_PANEL,
    ),
]


def check(ctx: typer.Context) -> None:
    """Refuse options that would have no effect: with an upstream the local engine's, without one its own.

    **Errors:** `InvalidRequest`.
    """
    behind = _given(ctx, "upstream")
    for name in LOCAL if behind else FAR:
        if _given(ctx, name):
            needs, rather = ("the local engine", "leave out") if behind else ("a server", "add")
            raise InvalidRequest(
                f"--{name.replace('_', '-')}: needs {needs}; leave it out, or {rather} --upstream."
            )


def _given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def connect(url: str, model: str | None, key_file: Path | None, vocabulary: int | None) -> "Upstream":
    """Find out what the server can do; here is where httpx is imported."""
    from thermoscope.upstream.upstream import open_upstream

    return open_upstream(url, model=model, key=_key(key_file, os.environ.get), vocabulary=vocabulary)


def _key(file: Path | None, variable: Callable[[str], str | None]) -> str | None:
    if file is None:
        return variable(KEY) or None
    key = file.read_text(encoding="utf-8").strip()
    if not key or not key.isprintable() or not key.isascii():  # and never the key itself in a message
        raise InvalidRequest(f"--upstream-key-file: got {file}, expected a file with one line, the key.")
    return key
