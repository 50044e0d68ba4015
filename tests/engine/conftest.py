"""A tiny model that speaks at random, but always the same."""

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-llama")
    return tiny.ours(tiny.save(tiny.reference("llama"), folder))
