import json
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.cli.conftest import Command
from tests.cli.fakes import FakeModel
from thermoscope.engine.steering import Steering
from thermoscope.server import serve as server
from thermoscope.server.options import Options


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the server was asked to serve; nothing listens."""
    calls: list[dict[str, Any]] = []
    module = ModuleType("thermoscope.server.serve")
    module.open_port = server.open_port  # type: ignore[attr-defined]
    module.serve = lambda model, **how: calls.append({"model": model, **how})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "thermoscope.server.serve", module)
    return calls


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    return int(number)


def test_options_reach_the_loader_and_the_server(
    model: FakeModel, served: list[dict[str, Any]], command: Command, port: int, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("another\n\n  third \n")
    done = command(
        *("serve", "--port", str(port), "--alias", "gpt-4o", "--alias", "small", "--slots", "3"),
        *("--allowed-host", "box.example", "--allow-origin", "https://app.example", "--allow-origin", "*"),
        *("--api-key", "one key", "--api-key", f"@{keys}", "--log-format", "json"),
        *("--keep-traces", str(tmp_path / "traces.db")),
        *("--queue", "9", "--timeout", "30", "--grace", "2.5"),
        *("--model", "x.gguf", "--precision", "fp32", "--context", "99", "--threads", "2"),
    )
    assert done.code == 0, done.err
    assert model.loaded == {
        **{"name": "x.gguf", "precision": "fp32", "context": 99, "threads": 2},
        **{"slots": 3, "progress": True},
    }
    (call,) = served
    options = Options(
        aliases=["gpt-4o", "small"],
        hosts=["box.example"],
        keys=["one key", "another", "third"],
        origins=["https://app.example", "*"],
        keep_traces=tmp_path / "traces.db",
        log="json",
        queue=9,
        timeout=30.0,
        grace=2.5,
    )
    assert call == {"model": model, "host": "127.0.0.1", "port": port, "options": options}
    assert model.closed == 1


def test_vectors_are_loaded_under_their_names(
    model: FakeModel, served: list[dict[str, Any]], command: Command, port: int, tmp_path: Path
) -> None:
    Steering("tiny", "llama", 3, {2: torch.ones(4)}).save(tmp_path / "v=1.gguf")
    done = command("serve", "--port", str(port), "--steer", f"formal={tmp_path / 'v=1.gguf'}")
    assert done.code == 0, done.err
    (call,) = served
    assert call["options"].vectors["formal"].vectors[2].tolist() == [1, 1, 1, 1]


def test_json_says_where_in_one_line(
    model: FakeModel, served: list[dict[str, Any]], command: Command, port: int
) -> None:
    done = command("serve", "--port", str(port), "--alias", "a", "--json")
    assert json.loads(done.out) == {
        **{"url": f"http://127.0.0.1:{port}", "model": "Fake-1B", "aliases": ["a"]},
        **{"precision": "fp32", "context": 4096, "slots": 8},
    }
    assert done.out.count("\n") == 1


def test_an_open_address_needs_a_key_or_insecure(
    model: FakeModel,
    served: list[dict[str, Any]],
    command: Command,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = command("serve", "--host", "0.0.0.0", "--port", str(port))
    assert done.code == 2
    assert done.err.startswith("thermoscope: --host: 0.0.0.0 is open to other machines")
    assert done.err.count("\n") == 1
    assert (model.loaded, served) == ({}, [])
    assert command("serve", "--host", "0.0.0.0", "--port", str(port), "--insecure").code == 0
    assert served[0]["host"] == "0.0.0.0"
    assert command("serve", "--host", "0.0.0.0", "--port", str(port), "--api-key", "k").code == 0
    monkeypatch.setenv("THERMOSCOPE_API_KEY", "secret")
    assert command("serve", "--host", "0.0.0.0", "--port", str(port)).code == 0
    assert served[2]["options"].keys == ["secret"]
    assert "secret" not in repr(served[2]["options"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--api-key", ""), "--api-key: got one that is empty"),
        (("--api-key", " k"), "--api-key: got one that is empty or has control characters or spaces"),
        (("--api-key", "secr\x07et"), "--api-key: got one that is empty or has control characters"),
        (("--api-key", "@no/such/file"), "--api-key: got @no/such/file, expected a text file"),
        (("--api-key", "@/dev/null"), "--api-key: got @/dev/null, a file without a key"),
        (("--allow-origin", "app.example"), "--allow-origin: got 'app.example', expected such as https://"),
        (("--allow-origin", "https://app.example/"), "--allow-origin: got 'https://app.example/'"),
        (("--keep-traces", "/no/such/folder/x.db"), "keep-traces: got /no/such/folder/x.db, expected"),
        (("--log-format", "xml"), "xml"),
    ],
)
def test_what_cannot_be_is_told_before_the_model_loads(
    model: FakeModel, served: list[dict[str, Any]], command: Command, arguments: tuple[str, ...], message: str
) -> None:
    done = command("serve", *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert "secr" not in done.err
    assert (model.loaded, served) == ({}, [])


def test_localhost_is_not_open(
    model: FakeModel, served: list[dict[str, Any]], command: Command, port: int
) -> None:
    assert command("serve", "--host", "localhost", "--port", str(port)).code == 0
    assert len(served) == 1


def test_a_port_that_is_taken_is_told_before_the_model_loads(
    model: FakeModel, served: list[dict[str, Any]], command: Command
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        done = command("serve", "--port", str(number))
    assert (done.code, done.err.count("\n"), model.loaded) == (2, 1, {})
    assert f"port: got {number}" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "no such host"], "host: got 'no such host'"),
        (["--port", "0"], "--port"),
        (["--port", "70000"], "--port"),
        (["--slots", "0"], "--slots"),
        (["--alias", "\udcff"], "--alias: got bytes that are not UTF-8"),
        (["--alias", " "], "--alias: got an empty text"),
        (["--allowed-host", ""], "--allowed-host: got an empty text"),
        (["--steer", "plain"], "--steer: got 'plain', expected a name and a file, as in formal=formal.gguf"),
        (["--steer", "a=none.gguf"], "none.gguf: cannot be read"),
    ],
)
def test_bad_input(
    model: FakeModel, served: list[dict[str, Any]], command: Command, arguments: list[str], message: str
) -> None:
    done = command("serve", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert served == []
