"""Environments of their own for other people's programs, made once and kept in the user's cache."""

import hashlib
import subprocess
import tarfile
import venv
from pathlib import Path

from filelock import FileLock

from thermoscope.models.store import cache_dir


def interpreter(*packages: str) -> Path:
    """The Python of an environment that holds these packages."""
    name = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    folder = cache_dir() / "peers" / name
    python = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
            (folder / "complete").touch()
    return python


def source(package: str, *builders: str) -> Path:
    """The unpacked source of a package, as its maker published it.

    `builders`: what pip must have at hand, for it looks into how a source is built before it hands it out.
    """
    folder = cache_dir() / "peers" / package
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            folder.mkdir(exist_ok=True)
            pip = [interpreter(*builders), "-m", "pip", "download", "--quiet", "--no-build-isolation"]
            subprocess.run([*pip, "--no-deps", "--no-binary", ":all:", "--dest", folder, package], check=True)
            (archive,) = folder.glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            archive.unlink()
            (folder / "complete").touch()
    (unpacked,) = (each for each in folder.iterdir() if each.is_dir())
    return unpacked
