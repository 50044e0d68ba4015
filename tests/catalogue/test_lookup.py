import json

import pytest

from tests.models.tiny import write_gguf
from tests.tiny import CONFIGS
from thermoscope.catalogue import hub, lookup
from thermoscope.catalogue.lookup import architecture, names
from thermoscope.catalogue.names import plain
from thermoscope.errors import BadModelFile, ModelNotFound, UnsupportedModel


def test_there_are_enough_models():
    assert len(names()) >= 60
    assert len(set(map(plain, names()))) == len(names())


@pytest.mark.parametrize("name", names())
def test_parameters_are_those_that_were_published(name):
    found = architecture(name)
    assert found.name == name
    assert found.parameters == pytest.approx(found.published_parameters, rel=0.005)
    assert "config.json of huggingface.co/" in found.source
    assert "; parameters: " in found.source


def test_most_counts_are_right_to_the_last_parameter():
    found = [architecture(name) for name in names()]
    exact = [each for each in found if each.parameters == each.published_parameters]
    assert len(exact) >= 120


@pytest.mark.parametrize(  # DeepSeek-V3 and Qwen3 of their reports, Mixtral of arXiv 2401.04088
    ("name", "billions"),
    [
        *(("mixtral-8x7b", 13), ("mixtral-8x22b", 39), ("qwen3-30b-a3b", 3.3), ("qwen3-235b-a22b", 22)),
        *(("deepseek-v2", 21), ("deepseek-v3", 37), ("llama-4-scout", 17), ("llama-4-maverick", 17)),
        *(("kimi-k2", 32), ("phi-3.5-moe", 6.6), ("olmoe-1b-7b", 1.3), ("dbrx", 36)),
    ],
)
def test_active_parameters_are_those_that_were_published(name, billions):
    assert architecture(name).active_parameters / 1e9 == pytest.approx(billions, rel=0.03)


def test_the_families_whose_norms_work_in_float32_to_their_end():
    """As any_config says of their model types, which is held to transformers."""
    families = ("gemma-", "olmo-", "gpt-oss-", "command-r")
    for name in names():
        assert architecture(name).norm_float32 == name.startswith(families), name


def test_the_families_whose_queries_keys_and_values_are_one_matrix():
    families = ("gpt2", "distilgpt2", "gpt-neox-", "pythia-", "bloom-", "mpt-", "dbrx", "starcoder")
    families += ("phi-3-", "phi-4")
    for name in names():
        fused = name.startswith(families) and not name.startswith("starcoder2-")
        assert architecture(name).fused_qkv == fused, name


def test_an_alias_leads_to_one_model():
    leads = {}
    for entry in lookup._entries():
        for alias in (entry["name"], *entry["aliases"]):
            assert leads.setdefault(plain(alias), entry["name"]) == entry["name"]


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "Llama 3.1 8B", "meta-llama/Llama-3.1-8B", "Llama-3.1-8B-Instruct"]
)
def test_a_name_in_any_spelling(name):
    assert architecture(name).name == "llama-3.1-8b"


def test_the_cache_of_qwen3_grows_by_112_kib_a_token_in_bf16():
    found = architecture("Qwen/Qwen3-0.6B")
    assert found.layers * found.kv_values * 2 == 112 * 1024


def test_the_cache_of_deepseek_v3_is_small():
    found = architecture("deepseek-v3")  # DeepSeek-V3 report: 512 + 64 numbers a token and layer
    assert found.kv_values == 576


def test_files_and_folders(tmp_path):
    config = CONFIGS["qwen3"]().to_dict()
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (tmp_path / "other.json").write_text(json.dumps(config))
    read = architecture(str(folder))
    assert (read.name, read.layers, read.kv_values) == ("my-model", 3, 2 * 2 * 32)
    assert architecture(str(folder / "config.json")) == read
    assert architecture(str(tmp_path / "other.json")).name == "other"
    gguf = architecture(str(write_gguf(tmp_path / "some.Q4_1.gguf")))
    assert (gguf.name, gguf.layers) == ("some", 2)


def test_broken_files_are_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(BadModelFile, match="got no 'hidden_size'"):
        architecture(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llama", "attn_config": 3}')
    with pytest.raises(BadModelFile, match=r"config\.json"):
        architecture(str(tmp_path))
    (tmp_path / "text.gguf").write_text("hello world")
    with pytest.raises(BadModelFile, match="no GGUF file"):
        architecture(str(tmp_path / "text.gguf"))
    (tmp_path / "config.json").write_text('{"model_type": "whisper", "is_encoder_decoder": true}')
    with pytest.raises(UnsupportedModel, match="whisper"):
        architecture(str(tmp_path))


@pytest.mark.parametrize("name", ["lama-3.1-8b", "llama-3.1-9b", "Llama3.1:8B-instruckt"])
def test_a_misspelt_name_is_answered_with_near_ones(name):
    with pytest.raises(ModelNotFound, match=r"did you mean .*'llama-3\.1-8b'"):
        architecture(name)


def test_a_hub_id_is_asked_of_the_hub(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["llama"]().to_dict()))
    asked = []

    def fetch(name, patterns, *, otherwise):
        asked.append((name, patterns, otherwise))
        return tmp_path

    monkeypatch.setattr(hub, "fetch", fetch)
    assert architecture("someone/something").layers == 3
    assert asked == [("someone/something", ["config.json"], "a config.json")]
