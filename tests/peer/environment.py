"""Environments of their own for other people's programs, made once and kept in the user's cache."""

import hashlib
import subprocess
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
