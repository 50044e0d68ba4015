"""Compiles the native library for this machine, once, and loads it.

    python -m thermoscope.models.kernels.build      compile it now, if it is not there yet

A build stands in the cache under a hash of the sources, the flags and the processor's features, with its own
checksum beside it. So other sources or another processor never meet an old build, and a damaged one is not
loaded but made anew.
"""

import functools
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from thermoscope.errors import KernelUnavailable
from thermoscope.models import store
from thermoscope.models.kernels.native import Library

FOLDER = Path(__file__).parent
SOURCES = ("blocks.cpp", "step.cpp", "distribution.cpp", "truncation.cpp", "api.cpp")
HEADERS = (
    *("simd.h", "doubles.h", "team.h", "blocks.h"),
    *("attention.h", "step.h", "distribution.h", "truncation.h"),
)
# Fused multiply-adds stand in the source; the compiler makes none of its own, so that all builds round alike.
FLAGS = ("-std=c++20", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared", "-pthread")
PATIENCE = 300  # seconds for a compiler


class Build(NamedTuple):
    """A compiled library and what its processor must have."""

    path: Path
    features: frozenset[str]


@functools.cache
def loaded() -> Library:
    """The library, if it has been built for this machine.

    **Errors:** `KernelUnavailable` if there is no sound build here; `build` makes one.
    """
    found = built()
    if found is None:
        raise KernelUnavailable("kernel: not built on this machine yet; run `thermoscope doctor`.")
    if (wrong := _fault(found.path)) is not None:
        raise KernelUnavailable(f"kernel: {found.path}: {wrong}; delete the file.")
    return Library(found.path)


def available() -> bool:
    """Whether `loaded` has one to give; once answered, the answer stays until `look_again`.

    So a library that another process builds meanwhile is not taken up in the middle of an answer.
    """
    return _found()


def look_again() -> None:
    """Let `available` find what has been built since."""
    _found.cache_clear()


@functools.cache
def _found() -> bool:
    try:
        loaded()
    except KernelUnavailable:
        return False
    return True


def built() -> Build | None:
    """The build in the cache, if its bytes are those that were built and this processor can run it."""
    path = _place()
    try:
        about = json.loads(path.with_suffix(".json").read_text())
        sound = hashlib.sha256(path.read_bytes()).hexdigest() == about["sha256"]
        found = Build(path, frozenset(about["features"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if sound and found.features <= features() else None


def build() -> Build:
    """Compile, unless that was done before; of several processes that try at once, one compiles.

    **Errors:** `KernelUnavailable` if there is no compiler, it fails, or what it makes computes wrong.
    """
    path = _place()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if (found := built()) is not None:
                return found
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                made = Path(scratch) / path.name
                since = time.monotonic()
                used = compile_to(made)
                if (wrong := _fault(made)) is not None:  # not kept, so that another compiler may do it
                    raise KernelUnavailable(f"kernel: {used} failed ({wrong}); set CXX to another one.")
                about = {
                    "sha256": hashlib.sha256(made.read_bytes()).hexdigest(),
                    "features": sorted(features()),
                    "compiler": used,
                    "seconds": round(time.monotonic() - since, 1),
                }
                made.replace(path)
                path.with_suffix(".json").write_text(json.dumps(about))
    except OSError as error:
        raise KernelUnavailable(
            f"kernel: could not be kept ({error}); make room in {path.parent}."
        ) from error
    loaded.cache_clear()
    look_again()
    found = built()
    assert found is not None
    return found


def compile_to(path: Path, *, flags: tuple[str, ...] | None = None) -> str:
    """Compile the library into a file, by default for this very processor; gives the compiler's name.

    **Errors:** `KernelUnavailable` if there is no compiler, or it fails.
    """
    command = compiler()
    if not command:
        raise KernelUnavailable(
            "kernel: got no C++ compiler, expected c++, g++ or clang++ on PATH, or CXX; install one "
            "(Debian: apt-get install g++)."
        )
    name = " ".join(command)
    machine = (_native(),) if flags is None else flags
    sources = [str(FOLDER / name) for name in SOURCES]
    try:
        done = subprocess.run(
            [*command, *FLAGS, *machine, *sources, "-o", str(path)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelUnavailable(f"kernel: {name} failed ({error}); set CXX to another one.") from error
    if done.returncode or not path.exists():
        said = next((line for line in done.stderr.splitlines() if "error" in line), f"exit {done.returncode}")
        raise KernelUnavailable(f"kernel: {name} failed ({said.strip()}); set CXX to another one.")
    return name


def compiler() -> list[str]:
    """The C++ compiler's command: what CXX says, or the first of the usual ones; empty if there is none."""
    said = os.environ.get("CXX", "")
    try:
        named = shlex.split(said)
    except ValueError:  # a quotation mark without its other
        named = [said]
    names = named[:1] or ("c++", "g++", "clang++")
    found = next((found for name in names if (found := shutil.which(name))), None)
    return [found, *named[1:]] if found else []


def features() -> frozenset[str]:
    """What this processor can do, in the system's words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return frozenset((platform.machine(), platform.processor()))
    named = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset((platform.machine(), *named.partition(":")[2].split()))


def _fault(path: Path) -> str | None:
    """Why the file is no library that computes right."""
    try:
        return Library(path).fault()
    except (OSError, AttributeError) as error:
        return str(error)


def _native() -> str:
    return "-march=native" if platform.machine() in ("x86_64", "AMD64", "i686") else "-mcpu=native"


def _place() -> Path:
    digest = hashlib.sha256(repr((FLAGS, sorted(features()))).encode())
    for name in (*SOURCES, *HEADERS):
        digest.update((FOLDER / name).read_bytes())
    return store.cache_dir() / "kernels" / f"{digest.hexdigest()[:16]}.so"


if __name__ == "__main__":
    try:
        print(build().path)
    except KernelUnavailable as error:
        sys.exit(str(error))
