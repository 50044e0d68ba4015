"""A trace in a process of its own: it can be stopped at any moment, and what it imported goes with it."""

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from typing import IO

from thermoscope.errors import InvalidRequest, ThermoscopeError, UnsupportedModel
from thermoscope.planning.memory.search import Job
from thermoscope.planning.memory.training import Training
from thermoscope.tuning.bounds import traceable

NEEDED = ("torch", "transformers", "peft")
PROGRAM = "from thermoscope.tuning.process import child; child()"
PATIENCE = 0.1  # seconds between two calls of `watch`


def traced(job: Job, watch: Callable[[], None]) -> dict[str, float]:
    """Bytes at the peak of each phase of a step of `job`, as `trace` finds them.

    `watch` is called many times a second; what it raises ends the trace.

    **Errors:** `InvalidRequest` for a job that cannot be traced, or without transformers and peft;
    `UnsupportedModel` where PyTorch cannot follow the step.
    """
    asked = traceable(job)
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise InvalidRequest(
            f"trace: got no package {missing[0]}, which it needs; run `pip install 'thermoscope[tune]'`, or "
            "leave --trace out.",
            param="trace",
        )
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as asking:
        pickle.dump(asked, asking)
        asking.seek(0)
        with subprocess.Popen(command, stdin=asking, stdout=subprocess.PIPE, stderr=said) as running:
            try:
                _wait(running, watch)
            finally:
                running.kill()
            assert running.stdout is not None
            answer = running.stdout.read()
        if not answer:
            raise UnsupportedModel(
                f"trace: got {_last_line(said)!r} from PyTorch, expected a step that it can follow; leave "
                "--trace out."
            )
    found = json.loads(answer)
    if "error" in found:
        raise UnsupportedModel(found["error"])
    return {phase: float(size) for phase, size in found.items()}


def _wait(running: subprocess.Popen[bytes], watch: Callable[[], None]) -> None:
    while True:
        watch()
        try:
            running.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            continue
        return


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "nothing")


def child() -> None:
    """Trace the job on standard input; its phases as JSON, or its error, on standard output."""
    from thermoscope.tuning import trace

    job: Training = pickle.load(sys.stdin.buffer)
    try:
        found = trace.phases(job, {layers: trace.moments(job, layers) for layers in trace.DEPTHS})
    except ThermoscopeError as error:
        found = {"error": str(error)}  # type: ignore[dict-item]
    print(json.dumps(found))
