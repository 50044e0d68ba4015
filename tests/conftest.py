"""Fixtures that more than one folder of tests needs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thermoscope.models import packed, store
from thermoscope.models.kernels import build
from thermoscope.models.kernels.native import Library
from thermoscope.models.store import locate


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The default model's file, fetched into the user's cache if it is not there yet."""
    return locate("SmolLM2-135M-Instruct", progress=False)


@pytest.fixture(scope="session", autouse=True)
def packs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is packed of tests' own models out of the user's cache."""
    ours, users, folder_for = tmp_path_factory.getbasetemp(), store.cache_dir(), packed.folder_for

    def elsewhere(cache: Path, source: Path, *rest: Any, **more: Any) -> Path:
        spare = cache == users and source.is_relative_to(ours)
        return folder_for(ours / "cache" if spare else cache, source, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "folder_for", elsewhere)
        yield


@pytest.fixture(scope="session", autouse=True)
def built() -> bool:
    """Whether there is a native library, built once for all tests; they run without one, too."""
    if build.built() is None and not build.compiler():
        return False
    build.build()
    return build.available()


@pytest.fixture(scope="session")
def kernel(built: bool) -> Library:
    """The native library; tests of it are skipped where there is no compiler."""
    if not built:
        pytest.skip("no compiler here, so no kernel")
    return build.loaded()
