import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli import fakes
from tests.cli.conftest import Command
from tests.cli.fakes import FakeModel
from thermoscope.engine.trace import Trace

CTRL_C, CTRL_D = "\x03", "\x04"
ROOT = Path(__file__).parents[2]


def test_a_conversation_remembers(model: FakeModel, command: Command) -> None:
    done = command("chat", "--system", "Be brief.", stdin=b"one\n\ntwo\n")
    assert (done.code, done.out, done.err) == (0, " one.\n two.\n", "")
    assert model.prompts == [
        "system: Be brief.\nuser: one\n",
        "system: Be brief.\nuser: one\nassistant:  one.\nuser: two\n",
    ]
    assert model.closed == 1


def test_new_forgets_all_but_the_system_message(model: FakeModel, command: Command) -> None:
    command("chat", stdin=b"one\n/system Rhyme.\ntwo\n/new\nthree\n/exit\nfour\n")
    assert model.prompts == [
        "user: one\n",
        "system: Rhyme.\nuser: two\n",
        "system: Rhyme.\nuser: three\n",
    ]


def test_set_changes_what_comes_next(model: FakeModel, command: Command) -> None:
    first_lines = "/set temperature 0.5\n/set max-tokens 2\n/set stop END\n/set seed 4\none\n"
    done = command("chat", stdin=f"{first_lines}/set seed none\ntwo\n/set\n".encode())
    first, second = model.settings
    assert (first.temperature, first.max_tokens, first.stop, first.seed) == (0.5, 2, ("END",), 4)
    assert second.seed not in (None, 4)
    assert "temperature=0.5" in done.err
    assert "[stopped after 2 tokens; /set max_tokens changes that]" in done.err


def test_bad_commands_are_one_line_and_the_talk_goes_on(model: FakeModel, command: Command) -> None:
    lines = "/dance\n/set colour red\n/set temperature hot\n/set top_p 2\n/save\n/save x\nstill here\n"
    done = command("chat", stdin=lines.encode())
    assert done.code == 0
    assert done.out == " still here.\n"
    said = done.err.splitlines()
    assert [line.startswith("thermoscope: ") for line in said] == [True] * 6
    assert "/dance: no such command" in said[0]
    assert "expected one of profile, temperature, top_p" in said[1]
    assert "got 'hot', expected a number" in said[2]
    assert "top_p: got 2.0" in said[3]
    assert "after an answer" in said[4]


def test_a_conversation_that_outgrows_the_context_loses_nothing(model: FakeModel, command: Command) -> None:
    model.context = 60
    long = "x" * 60
    done = command("chat", stdin=f"one\n{long}\ntwo\n/new\nthree\n".encode())
    assert done.out == " one.\n two.\n three.\n"
    assert done.err.startswith("thermoscope: prompt: got")
    assert "/new" in done.err
    assert model.prompts[1] == "user: one\nassistant:  one.\nuser: two\n"


def test_the_last_answers_trace_is_saved(model: FakeModel, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "t.json"
    done = command("chat", stdin=f"one\ntwo\n/save {target}\n/save {tmp_path}/no/t.json\n".encode())
    assert Trace.load(target).text == " two."
    assert f"trace: {target}" in done.err
    assert f"the folder {tmp_path}/no does not exist" in done.err


def test_json_answers_each_line_with_one(model: FakeModel, command: Command) -> None:
    done = command("chat", "--json", stdin=b"one\n/set top_p 7\n\xff\n")
    first, second, third = map(json.loads, done.out.splitlines())
    assert (first["text"], first["usage"]["completion_tokens"]) == (" one.", 3)
    assert second == {"error": "top_p: got 7.0, expected a number, 0 to 1."}
    assert third["text"] == " \ufffd."


# Opening it is what makes a terminal the one whose Ctrl-C a session's leader feels.
CLAIM_TERMINAL = "import os, sys; os.open(os.ttyname(0), os.O_RDWR); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A program on a terminal of its own, and all that it has shown so far."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.shown = ""
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLAIM_TERMINAL, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", **environment},
            start_new_session=True,
        )
        os.close(slave)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, pattern: str, seconds: float = 30) -> str:
        """What was shown up to the end of the pattern, which is then taken off."""
        limit = time.monotonic() + seconds
        while not (found := re.search(pattern, self.shown)):
            ready, _, _ = select.select([self.master], [], [], max(0, limit - time.monotonic()))
            if not ready:
                raise TimeoutError(f"waited for {pattern!r}, saw {self.shown!r}")
            self.shown += os.read(self.master, 65536).decode()
        before, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return before

    def press_at_prompt(self, key: str, pattern: str) -> None:
        """Press until it is felt: CPython misses a signal between showing a prompt and awaiting a key."""
        for _ in range(20):
            self.type(key)
            with suppress(TimeoutError):
                self.wait_for(pattern, seconds=0.5)
                return
        raise TimeoutError(f"pressed {key!r}, saw {self.shown!r}")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    shown = Terminal(sys.executable, fakes.__file__, "0.02", "chat", XDG_STATE_HOME=str(tmp_path))
    yield shown
    shown.close()


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for("> ")
    terminal.type("hello\n")
    terminal.wait_for(r" hello\.\r\n> ")
    terminal.type("count\n")
    terminal.wait_for(" 5 6 7")
    terminal.type(CTRL_C)
    rest = terminal.wait_for("> ")
    assert " 500" not in rest
    terminal.press_at_prompt(CTRL_C, "Ctrl-D leaves")
    terminal.type("again\n")
    terminal.wait_for(r" again\.\r\n> ")
    terminal.type(CTRL_D)
    assert terminal.process.wait(timeout=20) == 0
    kept = (tmp_path / "thermoscope" / "history").read_text().splitlines()
    assert kept[-3:] == ["hello", "count", "again"]


def test_the_default_model_lives_through_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "thermoscope", "chat", "--temperature", "0", "--max-tokens", "400"]
    terminal = Terminal(*command, XDG_STATE_HOME=str(tmp_path))
    try:
        terminal.wait_for("> ", seconds=60)
        terminal.type("Tell me a very long story about the sea.\n")
        terminal.wait_for(r"\r\n\w+ \w+ \w+ \w+ \w+ ", seconds=60)
        terminal.type(CTRL_C)
        assert len(terminal.wait_for("> ").split()) < 250
        terminal.type("What is the capital of France?\n")
        terminal.wait_for("Paris", seconds=60)
        terminal.wait_for("> ", seconds=60)
        terminal.type(CTRL_D)
        assert terminal.process.wait(timeout=30) == 0
    finally:
        terminal.close()
