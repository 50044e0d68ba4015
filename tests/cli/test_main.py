import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.fakes import FakeModel
from thermoscope import __version__, cli
from thermoscope.errors import BadModelFile

ROOT = Path(__file__).parents[2]
HELP = [sys.executable, "-m", "thermoscope", "--help"]
HEAVY = ("torch", "numpy", "fastapi", "tokenizers", "transformers", "gguf", "thermoscope.engine")


def test_help_comes_in_half_a_second() -> None:
    """Of processor time, which is what a user waits, whatever else keeps this machine busy."""

    def seconds() -> float:
        before = os.times()
        subprocess.run(HELP, cwd=ROOT, check=True, capture_output=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    seconds()  # compiles, once after an install
    assert statistics.median(seconds() for _ in range(3)) < 0.5


@pytest.mark.parametrize("command", [["--help"], ["hardware"], ["hardware", "--json"], ["models", "list"]])
def test_a_reader_who_leaves_is_no_fault(command: list[str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [*HELP[:-1], *command], cwd=ROOT, stdout=writes, stderr=subprocess.PIPE, check=False
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, b"")


def test_another_way_out_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(*_: object, **__: object) -> None:
        raise SystemExit("a library gives up")

    monkeypatch.setattr(cli, "app", gives_up)
    with pytest.raises(SystemExit, match="a library gives up"):
        cli.main(["doctor"])


@pytest.mark.parametrize("command", ["", "run", "chat", "serve", "models", "doctor"])
def test_help_imports_nothing_heavy(command: str) -> None:
    heavy = HEAVY if command else (*HEAVY, "pydantic")  # Typer itself reads a command's options with it
    code = (
        "import sys; from thermoscope.cli import main; "
        f"assert main({[command, '--help'] if command else ['--help']}) == 0; "
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stderr == "[]\n"


def test_no_arguments_show_the_help(command: Command) -> None:
    done = command()
    assert done.code == 0
    for name in ("run", "chat", "serve", "models", "doctor"):
        assert f" {name} " in done.out


def test_version(command: Command) -> None:
    assert command("--version").out == f"{__version__}\n"


def test_an_error_of_many_lines_becomes_one(model: FakeModel, command: Command) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BadModelFile("x.gguf: got\nnonsense,\n  expected a model.")

    sys.modules["thermoscope.engine.language_model"].load = broken  # type: ignore[attr-defined]
    done = command("run", "Hi")
    assert (done.code, done.err) == (2, "thermoscope: x.gguf: got nonsense, expected a model.\n")


def test_ctrl_c_while_loading_is_quiet(model: FakeModel, command: Command) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    sys.modules["thermoscope.engine.language_model"].load = interrupted  # type: ignore[attr-defined]
    assert command("run", "Hi") == (130, "", "")


def test_a_fault_of_our_own_is_not_hidden(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    sys.modules["thermoscope.engine.language_model"].load = faulty  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "Hi"])


def test_a_reader_that_goes_away_is_no_fault() -> None:
    program = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fakes.py")), "0", "run", "count"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.read(3)
    program.stdout.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    assert program.wait(timeout=20) in (0, 1)


def test_closed_input_is_the_same_as_nothing(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["run"]) == 2
    sys.stdin.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("fakes.py")), "0", "run", "Hi"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (2, "thermoscope: output: No space left on device\n")
