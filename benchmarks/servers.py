"""The servers that are measured, each a process of its own on the same weights: ours, llama.cpp's, vLLM's."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from clients import Server
from contenders import get, running

from thermoscope.bench import llama

VLLM = "THERMOSCOPE_VLLM"  # the Python of the environment that vLLM is installed in


@contextlib.contextmanager
def ours(path: Path, *, threads: int, slots: int, context: int) -> Iterator[Server]:
    """`thermoscope serve`."""
    port = _free()
    command = [sys.executable, "-m", "thermoscope", "serve", "--model", str(path), "--port", str(port)]
    command += ["--slots", str(slots), "--context", str(context), "--threads", str(threads)]
    with _up(command, port) as model:
        yield Server(f"http://127.0.0.1:{port}", model, {"thermoscope": {"ignore_eos": True}})


@contextlib.contextmanager
def llama_server(folder: Path, path: Path, *, threads: int, slots: int, context: int) -> Iterator[Server]:
    """`llama-server`, as many slots of as much context."""
    port = _free()
    command = [str(folder / "llama-server"), "-m", str(path), "--port", str(port), "-t", str(threads)]
    command += ["-np", str(slots), "-c", str(slots * context), "--no-webui"]
    with _up(command, port, llama.environment(folder)) as model:
        yield Server(f"http://127.0.0.1:{port}", model, {"ignore_eos": True})


@contextlib.contextmanager
def vllm(folder: Path, *, threads: int, slots: int, context: int) -> Iterator[Server]:
    """vLLM for CPUs on a folder of the same model, bfloat16, which is what it has on this machine."""
    port = _free()
    command = [os.environ[VLLM], "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--port", str(port), "--dtype", "bfloat16", "--max-model-len", str(context)]
    command += ["--max-num-seqs", str(slots), "--enforce-eager"]
    environment = {
        **os.environ,
        **{"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}"},
    }
    with _up(command, port, environment) as model:
        yield Server(f"http://127.0.0.1:{port}", model, {"ignore_eos": True})


@contextlib.contextmanager
def _up(command: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[str]:
    """A server that answers already; yields its model's name."""
    with running(command, environment) as process:
        yield get(process, f"http://127.0.0.1:{port}/v1/models")["data"][0]["id"]


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
