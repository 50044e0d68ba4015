import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests import tiny
from thermoscope.errors import BadModelFile, InvalidRequest, OutOfMemory, UnsupportedModel
from thermoscope.models import foreign
from thermoscope.models.model import Model
from thermoscope.planning import serving

SMALL = {"vocab_size": 96, "hidden_size": 64, "bos_token_id": 0, "eos_token_id": 1}
PLAIN = SMALL | {"num_hidden_layers": 2, "num_attention_heads": 4}
SHARED = PLAIN | {"num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 64}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
REFUSED = {
    "mamba": (
        lambda: transformers.MambaConfig(**SMALL, num_hidden_layers=2, state_size=8),
        "mamba: got layers of kind linear_attention, expected full_attention or sliding_attention",
    ),
    "rwkv": (
        lambda: transformers.RwkvConfig(**SMALL, num_hidden_layers=2, attention_hidden_size=64),
        "rwkv: got attention in 0 of 2 layers, expected it in all",
    ),
    "mpt": (
        lambda: transformers.MptConfig(d_model=64, n_heads=4, n_layers=2, vocab_size=96),
        "mpt: got a network that our attention does not fit into",
    ),
    "bloom": (
        lambda: transformers.BloomConfig(**SMALL, n_layer=2, n_head=4),
        "bloom: got attention in 0 of 2 layers",
    ),
    "lfm2": (
        lambda: transformers.Lfm2Config(**SHARED, layer_types=["conv", "full_attention"]),
        "lfm2: got layers of kind conv, expected",
    ),
    "falcon": (
        lambda: transformers.FalconConfig(**PLAIN),
        "falcon: got a network that our attention does not fit into",
    ),
    "gpt_oss": (
        lambda: transformers.GptOssConfig(**SHARED, **EXPERTS, head_dim=16, pad_token_id=None),
        "gpt_oss: got logits .* away from the network's own",  # its attention has sinks
    ),
    "bart": (
        lambda: transformers.BartConfig(
            vocab_size=96, d_model=64, encoder_layers=1, decoder_layers=1, pad_token_id=0, eos_token_id=1
        ),
        "bart: got logits .* away from the network's own",  # its positions are its own
    ),
    "bert": (
        lambda: transformers.BertConfig(**SHARED | {"num_key_value_heads": None}, pad_token_id=0),
        "bert: got",  # it looks ahead
    ),
}


def saved(config, folder):
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0.0, 0.3)
    return tiny.save(network, folder)


@pytest.fixture
def folder(tmp_path):
    return tiny.save(tiny.reference("stablelm"), tmp_path / "tiny-stablelm")


def rewrite(path, **changed):
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


@pytest.mark.parametrize("kind", REFUSED)
def test_what_our_attention_cannot_serve_is_refused_by_name(kind, tmp_path):
    config, message = REFUSED[kind]
    with pytest.raises(UnsupportedModel, match=message) as caught:
        Model.load(str(saved(config(), tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_model_of_text_and_images_is_refused(folder):
    text = tiny.CONFIGS["gemma3"]().to_dict()
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    with pytest.raises(UnsupportedModel, match="gemma3: got a model of more than text"):
        Model.load(str(folder))


def test_it_says_in_one_line_that_it_is_slower(folder, caplog):
    model = Model.load(str(folder))
    assert (model.name, model.precision, model.config.family) == ("tiny-stablelm", "fp32", "stablelm")
    (record,) = (each for each in caplog.records if each.name == "thermoscope.models.foreign")
    assert record.getMessage().startswith("tiny-stablelm: a stablelm runs through transformers")


def test_its_shape_is_what_its_network_shows(tmp_path):
    found = foreign.Foreign.open(saved(tiny.FOREIGN["cohere2"](), tmp_path))
    config = found.config
    assert (config.heads, config.kv_heads, config.head_dim, config.layers) == (4, 2, 16, 3)
    assert (config.window, config.windowed, config.context) == (16, (True, False, True), 256)
    network = transformers.AutoModelForCausalLM.from_config(tiny.FOREIGN["cohere2"]())
    assert found.weight_bytes == 4 * network.num_parameters()


def test_without_transformers_the_refusal_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(foreign, "find_spec", lambda _: None)
    with pytest.raises(UnsupportedModel, match=r"got 'stablelm'.*pip install 'thermoscope\[any\]'"):
        Model.load(str(folder))


def test_our_own_families_never_go_that_way(tmp_path):
    assert not foreign.is_foreign(tiny.save(tiny.reference("llama"), tmp_path))
    assert not foreign.is_foreign(tmp_path / "model.safetensors")


def test_only_fp32(folder):
    with pytest.raises(InvalidRequest, match="precision: got 'int8', expected fp32"):
        Model.load(str(folder), precision="int8")
    assert Model.load(str(folder), precision="fp32").precision == "fp32"


def test_memory_is_counted_before_weights_are_read(folder, monkeypatch):
    monkeypatch.setattr(serving, "free_bytes", lambda: 1000)
    monkeypatch.setattr(foreign.Foreign, "load", lambda _: pytest.fail("loaded"))
    with pytest.raises(OutOfMemory):
        Model.load(str(folder))


def test_a_weight_that_is_missing_is_not_made_up(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadModelFile, match=r"no fitting tensor for 1 weights.*layers\.1\.mlp\.up_proj"):
        Model.load(str(folder))


def test_pickles_and_foreign_kernels_are_refused_as_ever(folder):
    rewrite(folder / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(UnsupportedModel, match="quantised for another engine"):
        Model.load(str(folder))
    rewrite(folder / "config.json", quantization_config=None)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match="never loaded"):
        Model.load(str(folder))


def test_no_code_out_of_the_folder_runs(folder):
    (folder / "modeling_evil.py").write_text("raise SystemExit('code of a model ran')")
    (folder / "configuration_evil.py").write_text("raise SystemExit('code of a model ran')")
    remote = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    rewrite(folder / "config.json", model_type="evil", auto_map=remote)
    with pytest.raises(UnsupportedModel, match="got 'evil', which transformers does not know either"):
        Model.load(str(folder))
    rewrite(folder / "config.json", model_type="stablelm", auto_map=remote)
    assert Model.load(str(folder)).config.family == "stablelm"
