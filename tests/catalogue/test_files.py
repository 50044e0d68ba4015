import json
from pathlib import Path

import pytest

from thermoscope.catalogue.files import name_of, read_json, reading
from thermoscope.errors import BadModelFile, UnsupportedModel


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "qwen2.5-0.5b-instruct"),
        ("Llama-3.2-1B-BF16.gguf", "Llama-3.2-1B"),
        ("model.f16.gguf", "model"),
        ("Qwen3-0.6B.gguf", "Qwen3-0.6B"),
        ("models--Qwen--Qwen3-0.6B/snapshots/0123abc/", "Qwen3-0.6B"),
        ("my.model/", "my.model"),
    ],
)
def test_a_models_name_is_for_people(tmp_path: Path, path: str, name: str) -> None:
    if path.endswith("/"):
        (tmp_path / path).mkdir(parents=True)
    assert name_of(tmp_path / path) == name


def test_whatever_a_parser_raises_becomes_one_line() -> None:
    with pytest.raises(BadModelFile, match=r"here: .*RuntimeError: two lines") as caught, reading("here"):
        raise RuntimeError("two\nlines")
    assert "\n" not in str(caught.value)
    with pytest.raises(UnsupportedModel, match="as it is"), reading("here"):
        raise UnsupportedModel("as it is")


def test_json_must_be_there_and_be_an_object(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    assert read_json(file, optional=True) == {}
    with pytest.raises(BadModelFile, match=r"got no config\.json"):
        read_json(file)
    file.write_text("[1]")
    with pytest.raises(BadModelFile, match="got a list, expected a JSON object"):
        read_json(file)
    file.write_text("{")
    with pytest.raises(BadModelFile, match="does not parse"):
        read_json(file)
    file.write_text(json.dumps({"a": 1}))
    assert read_json(file) == {"a": 1}
