"""The same from a terminal: `thermoscope run | chat | serve | models | hardware | bench | doctor`, and cards.

A command is one file, and imports the engine only once its own options have been checked, so `--help` and
every refusal of bad input are quick.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from thermoscope import __version__
from thermoscope.cli import bench, chat, doctor, hardware, models, run, serve
from thermoscope.cli.commands import Commands
from thermoscope.cli.terminal import complain
from thermoscope.errors import ThermoscopeError

BAD_INPUT = 2
INTERRUPTED = 130


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


app = typer.Typer(
    name="thermoscope",
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """An LLM engine with a glass case: a real model, every token's step in sight."""


app.command()(run.run)
app.command()(chat.chat)
app.command()(serve.serve)
app.add_typer(models.app, name="models")
app.command()(hardware.hardware)
app.command()(bench.bench)
app.command()(doctor.doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done, 1 `doctor` found something missing or a card's check failed, 2 bad input (one line on stderr),
    130 Ctrl-C.
    """
    if sys.stdin is None:  # closed by whoever started us: the same as nothing to read
        sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):  # a token may hold what an old terminal's encoding lacks
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    whole_process = arguments is None
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return app(arguments or ["--help"], prog_name="thermoscope", standalone_mode=False) or 0
    except (ThermoscopeError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        if not message:  # a group of commands without one, which has shown its help, as we do
            return 0
        complain(message)
    except (BrokenPipeError, SystemExit) as error:
        # `thermoscope … | head`: nobody reads on, which is no fault. Typer and Rich leave by SystemExit then.
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        complain(f"{error.filename or 'output'}: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        if whole_process:  # a second one would come amid Python's own end, and leave its traceback there
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return INTERRUPTED
    return BAD_INPUT
