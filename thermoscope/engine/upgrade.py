"""From PyTorch's kernels to the own one, under a model that serves already.

The compiler and the packing run in a process of their own, so that no answer waits for them; it outlives
this one, which may be a single `thermoscope run`. The engine takes the result up at the next moment without
an answer under way, for numbers of two arithmetics do not mix.
"""

import logging
import os
import subprocess
import sys
import threading

from thermoscope.catalogue.precision import NATIVE
from thermoscope.engine.runner import Runner
from thermoscope.errors import ThermoscopeError
from thermoscope.models.kernels import build
from thermoscope.models.model import Model

log = logging.getLogger(__name__)


def start(runner: Runner, name: str, *, precision: str | None, threads: int) -> threading.Thread | None:
    """Begin, if this model would gain by it and there is a compiler; say in one line what is going on."""
    model = runner.engine.model
    if model.precision not in NATIVE or build.available():
        return None
    if not build.compiler():
        what = (
            f"CXX={os.environ['CXX']!r} is no program here"
            if os.environ.get("CXX")
            else "no C++ compiler here"
        )
        log.warning("kernel: %s, so PyTorch's kernels serve, at a fraction of the speed.", what)
        return None
    log.warning("kernel: being built for this machine, once; PyTorch's kernels serve until it is there.")
    thread = threading.Thread(
        target=_upgrade, args=(runner, name, precision, threads), name="upgrade", daemon=True
    )
    thread.start()
    return thread


def _upgrade(runner: Runner, name: str, precision: str | None, threads: int) -> None:
    # As it was asked for: what is packed is what the next start looks for.
    command = [sys.executable, "-m", "thermoscope.models.prepare", name, *([precision] if precision else [])]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        log.warning("%s; PyTorch's kernels go on serving.", said[-1].rstrip("."))
        return
    try:
        model = Model.load(name, precision=precision, native=True)
        runner.call(lambda: runner.engine.adopt(model, threads=threads))
    except ThermoscopeError as error:
        log.warning("kernel: built, but not taken up: %s", error)
