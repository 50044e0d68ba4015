"""What is fetched from the hub, and how soon it is told that it cannot be."""

import sys
import types

import pytest

from thermoscope.catalogue import hub
from thermoscope.errors import ModelNotFound


@pytest.fixture
def client(monkeypatch, tmp_path):
    """A hub whose answers a test decides. `asked`: the calls that it got."""
    client = types.ModuleType("huggingface_hub")
    client.asked, client.says, client.has = [], None, tmp_path

    def answer(value):
        if isinstance(value, Exception):
            raise value
        return value

    class HfApi:
        def model_info(self, name, *, timeout):
            client.asked.append(("info", name, timeout))
            return answer(client.says)

    def snapshot_download(name, *, allow_patterns, local_files_only):
        client.asked.append(("files", name, allow_patterns, local_files_only))
        return str(answer(client.has))

    client.HfApi, client.snapshot_download = HfApi, snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    return client


def fetch():
    return hub.fetch("owner/name", ("*.json",), otherwise="a GGUF file")


def test_the_hub_is_asked_once_and_then_for_the_files(client, tmp_path):
    assert fetch() == tmp_path
    assert client.asked == [("info", "owner/name", 10.0), ("files", "owner/name", ["*.json"], False)]


def test_without_the_hub_what_is_kept_does(client, tmp_path):
    client.says = OSError("no route to host")
    assert fetch() == tmp_path
    assert client.asked[1] == ("files", "owner/name", ["*.json"], True)


@pytest.mark.parametrize(
    ("says", "has"),
    [
        (OSError("no route\nto host"), FileNotFoundError("not in the cache")),
        (None, OSError("no route\nto host")),
        (TimeoutError(), FileNotFoundError("not in the cache")),
    ],
)
def test_what_cannot_be_had_is_told_with_its_cause(client, says, has):
    client.says, client.has = says, has
    reason = "TimeoutError" if isinstance(says, TimeoutError) else "no route to host"
    with pytest.raises(ModelNotFound, match=rf"'owner/name'.*\({reason}\).*a GGUF file") as caught:
        fetch()
    assert "\n" not in str(caught.value)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelNotFound, match=r"thermoscope\[hub\].*a GGUF file"):
        fetch()
