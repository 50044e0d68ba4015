"""Files from the Hugging Face hub, or what its cache has of them where the hub cannot be reached."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thermoscope.errors import ModelNotFound

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PATIENCE = 10.0  # seconds for the hub's first word; its client would ask five times, and print each of them


def fetch(name: str, patterns: Sequence[str], *, otherwise: str) -> Path:
    """A folder with those files of a repository that a pattern matches.

    `otherwise`: what the user could name in place of a Hugging Face id.

    **Errors:** `ModelNotFound`.
    """
    try:
        import huggingface_hub as hub
    except ModuleNotFoundError as error:
        raise ModelNotFound(
            f"model: got the Hugging Face id {name!r}, but the package huggingface_hub is missing; "
            f"run `pip install 'thermoscope[hub]'`, or name a folder or {otherwise}."
        ) from error
    unreachable = _unreachable(hub.HfApi(), name)
    try:
        kept_only = unreachable is not None
        return Path(hub.snapshot_download(name, allow_patterns=list(patterns), local_files_only=kept_only))
    except Exception as error:  # the hub's client raises its own, httpx's and the system's errors
        cause = unreachable or error
        reason = (" ".join(str(cause).split()) or type(cause).__name__)[:200]
        raise ModelNotFound(
            f"model: got the Hugging Face id {name!r}, which could not be fetched ({reason}); check the name "
            f"and the network, or name a folder or {otherwise}."
        ) from cause


def _unreachable(api: "HfApi", name: str) -> Exception | None:
    """Why the hub does not speak of a repository; it is asked once."""
    try:
        api.model_info(name, timeout=PATIENCE)
    except Exception as error:
        return error
    return None
