import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from thermoscope.catalogue.lookup import architecture
from thermoscope.errors import ModelNotFound
from thermoscope.instruments.shape.model import Shape

SHAPE = TypeAdapter(Shape)
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
}  # fmt: skip


def test_a_string_is_a_name_of_the_catalogue():
    assert SHAPE.validate_python("Llama 2 7B") == architecture("llama-2-7b")
    assert SHAPE.dump_python(SHAPE.validate_python("Llama 2 7B")) == "llama-2-7b"


def test_a_path_may_be_a_file_or_a_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for path in (tmp_path, tmp_path / "config.json"):
        assert SHAPE.validate_python(path).hidden == 64


def test_a_path_that_is_none_may_be_a_name():
    assert SHAPE.validate_python(Path("llama-2-7b")).name == "llama-2-7b"


@pytest.mark.parametrize("name", ["../config.json", "/etc", "meta-llama/nothing-here"])
def test_a_string_reaches_neither_files_nor_the_network(name):
    with pytest.raises(ModelNotFound, match=r"expected a name of the catalogue\.$"):
        SHAPE.validate_python(name)


def test_anything_else_is_refused():
    with pytest.raises(ValidationError, match="Input should be the name of a model"):
        SHAPE.validate_python(7)
