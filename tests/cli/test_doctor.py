import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.cli.conftest import Command
from thermoscope.cli import doctor, machine
from thermoscope.models import store
from thermoscope.models.kernels import build
from thermoscope.models.kernels.native import Library
from thermoscope.models.wheel import Wheel


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[bytes | None], Path]:
    """A default model of a few bytes, as it should be, damaged, or not there."""

    def put(content: bytes | None) -> Path:
        path = tmp_path / "model.gguf"
        if content is not None:
            path.write_bytes(content)
        wheel = Wheel(
            "package", "1", "x.whl", 1, "0" * 64, "model.gguf", 4, hashlib.sha256(b"good").hexdigest()
        )
        here = None if content is None else path
        model = store.KnownModel("SmolLM2-135M-Instruct", "Apache-2.0", "somewhere", wheel, here)
        monkeypatch.setattr(store, "cached_models", lambda: [model])
        monkeypatch.setattr(
            doctor, "precision_check", lambda _: doctor.Check("default precision", "ok", "int4")
        )
        return path

    return put


def report(command: Command) -> tuple[int, dict[str, Any]]:
    done = command("doctor", "--json")
    plain = json.loads(done.out)
    return done.code, {check["name"]: check for check in plain["checks"]} | {"able": plain["able"]}


def test_a_sound_machine(cached: Callable[[bytes], Path], command: Command) -> None:
    cached(b"good")
    code, checks = report(command)
    assert (code, checks["able"]) == (0, True)
    for name in (
        "processor",
        "memory",
        "disk",
        "Python",
        "torch",
        "typer",
        "PyTorch starts",
        "default model",
    ):
        assert checks[name]["status"] == "ok", checks[name]
    assert checks["torch"]["found"] == metadata.version("torch")
    assert checks["default precision"]["found"] == "int4"


def test_the_table_says_the_same(cached: Callable[[bytes], Path], command: Command) -> None:
    cached(b"good")
    done = command("doctor")
    assert done.code == 0
    assert "default model" in done.out
    assert done.out.rstrip().endswith("Ready.")


def test_a_damaged_model_is_wrong_and_says_how_to_mend_it(
    cached: Callable[[bytes], Path], command: Command
) -> None:
    path = cached(b"evil")
    code, checks = report(command)
    assert (code, checks["able"]) == (1, False)
    assert checks["default model"]["status"] == "wrong"
    assert checks["default model"]["remedy"] == (
        f"rm '{path}' && thermoscope models pull SmolLM2-135M-Instruct"
    )


def test_a_model_not_fetched_yet_is_no_obstacle(cached: Callable[[None], Path], command: Command) -> None:
    cached(None)
    code, checks = report(command)
    assert code == 0
    assert checks["default model"]["status"] == "missing"
    assert checks["default model"]["remedy"] == "thermoscope models pull SmolLM2-135M-Instruct"


def test_too_little_memory_is_an_obstacle(
    cached: Callable[[bytes], Path], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(b"good")
    monkeypatch.setattr(machine, "free_bytes", lambda: 10**9)
    done = command("doctor")
    assert done.code == 1
    assert "953.7 MiB free" in done.out
    assert "Not ready" in done.out


def test_requirements_are_the_projects_own() -> None:
    names = {Requirement(requirement).name for requirement in doctor.requirements()}
    assert {"torch", "typer", "psutil"} <= names
    assert "pytest" not in names


@pytest.mark.parametrize(
    ("requirement", "status"),
    [
        ("typer>=0.1", "ok"),
        ("typer>=999", "wrong"),
        ("typer<0.1", "wrong"),
        ("no-such-package-anywhere>=1", "missing"),
    ],
)
def test_a_requirement(requirement: str, status: str) -> None:
    check = doctor.requirement_check(requirement)
    assert check.status == status
    if status != "ok":
        assert check.remedy == f'{sys.executable} -m pip install "{requirement}"'


def test_no_compiler_and_no_browser_are_told_but_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(build, "built", lambda: None)
    checks = list(doctor.tool_checks())
    assert [check.status for check in checks] == ["missing"] * 3
    assert [check.needed for check in checks] == [False] * 3
    compiler, kernel, browser = (check.remedy for check in checks)
    assert "install" in compiler
    assert "install" in browser
    assert kernel == f"{sys.executable} -m thermoscope.models.kernels.build"


def test_a_kernel_that_is_built_is_named(kernel: Library) -> None:
    (check,) = (check for check in doctor.tool_checks() if check.name == "native kernel")
    found = build.built()
    assert found is not None
    assert (check.status, check.found) == ("ok", str(found.path))


def test_a_torch_that_does_not_start_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    check = doctor.torch_check()
    assert (check.status, check.needed) == ("wrong", True)
    assert "pip install" in check.remedy
