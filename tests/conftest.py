"""Fixtures that more than one folder of tests needs."""

from pathlib import Path

import pytest

from thermoscope.models.store import locate


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The default model's file, fetched into the user's cache if it is not there yet."""
    return locate("SmolLM2-135M-Instruct", progress=False)
