import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.cli.conftest import Command
from thermoscope.upstream import upstream as engine
from thermoscope.upstream.abilities import Abilities
from thermoscope.upstream.connection import Connection

ABILITIES = Abilities(
    model="far", server="toy", context=64, vocabulary=10, chat=True, completions=True, top_logprobs=20,
    completion_logprobs=20, logprobs="raw", streamed_logprobs=True, n=True, seed=True, tools=(),
)  # fmt: skip


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the server was asked to stand before; nothing is asked, and nothing listens."""
    calls: list[dict[str, Any]] = []

    def open_upstream(url: str, **how: Any) -> engine.Upstream:
        calls.append({"url": url, **how})
        return engine.Upstream(Connection(url), ABILITIES)

    module = ModuleType("thermoscope.server.upstream.serve")
    module.serve = lambda upstream, **how: calls.append({"served": upstream.name, **how})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "thermoscope.server.upstream.serve", module)
    monkeypatch.setattr(engine, "open_upstream", open_upstream)
    monkeypatch.delenv("THERMOSCOPE_UPSTREAM_KEY", raising=False)
    return calls


def test_options_reach_the_upstream_and_the_server(
    opened: list[dict[str, Any]], command: Command, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sesame\n")
    done = command(
        *(
            "serve",
            "--port",
            "8123",
            "--upstream",
            "http://toy",
            "--upstream-model",
            "far",
            "--alias",
            "gpt-4o",
        ),
        *("--upstream-key-file", str(tmp_path / "key"), "--upstream-vocabulary", "10", "--json"),
    )
    assert done.code == 0, done.err
    asked, served = opened
    assert asked == {"url": "http://toy", "model": "far", "key": "sesame", "vocabulary": 10}
    assert served["served"] == "far"
    assert served["options"].aliases == ["gpt-4o"]
    said = json.loads(done.out)
    assert said["model"] == "far"
    assert said["upstream"]["logprobs"] == "raw"
    assert "sesame" not in done.out + done.err


def test_the_key_may_stand_in_the_environment(
    opened: list[dict[str, Any]], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THERMOSCOPE_UPSTREAM_KEY", "sesame")
    assert command("serve", "--port", "8123", "--upstream", "http://toy").code == 0
    assert opened[0]["key"] == "sesame"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slots", "8"], "--slots: needs the local engine"),
        (["--model", "x.gguf"], "--model: needs the local engine"),
        (["--upstream-key-file", "none"], "none: No such file"),
        (["--upstream-vocabulary", "0"], "--upstream-vocabulary"),
    ],
)
def test_bad_input(
    opened: list[dict[str, Any]], command: Command, arguments: list[str], message: str
) -> None:
    done = command("serve", "--port", "8123", "--upstream", "http://toy", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert opened == []


@pytest.mark.parametrize("option", ["--upstream-model", "--upstream-key-file", "--upstream-vocabulary"])
def test_what_speaks_of_an_upstream_needs_one(
    opened: list[dict[str, Any]], command: Command, option: str
) -> None:
    done = command("serve", "--port", "8123", option, "7")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"thermoscope: {option}: needs a server; leave it out, or add --upstream.\n"


def test_a_key_file_that_holds_none_is_refused(
    opened: list[dict[str, Any]], command: Command, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("se\nsame")
    done = command(
        "serve", "--port", "8123", "--upstream", "http://toy", "--upstream-key-file", str(tmp_path / "key")
    )
    assert done.code == 2
    assert "expected a file with one line" in done.err
    assert "same" not in done.err
