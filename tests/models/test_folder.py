import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import decoders, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests import tiny
from tests.models.tiny import MERGES, SPECIALS, TEMPLATE, TOKENS
from thermoscope.errors import BadModelFile, ThermoscopeError, UnsupportedModel
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.folder import FolderCheckpoint
from thermoscope.models.parts import parts_of

SHAPE: dict[str, Any] = {
    "vocab_size": len(TOKENS) + 9,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS: dict[str, Any] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
}


def core() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(
        models.BPE({token: i for i, token in enumerate(TOKENS)}, [tuple(m.split()) for m in MERGES])
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIALS)
    return made


def save_tokenizer(folder: Path, **changed: Any) -> None:
    settings = {"bos_token": SPECIALS[1], "eos_token": SPECIALS[2], "chat_template": TEMPLATE} | changed
    PreTrainedTokenizerFast(tokenizer_object=core(), **settings).save_pretrained(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, torch.Tensor]]]:
    found = {}
    for name, (config, model, extra) in KINDS.items():
        torch.manual_seed(0)
        network = model(config(**SHAPE, **extra))
        folder = tmp_path_factory.mktemp("folders") / name
        network.save_pretrained(folder, max_shard_size="20KB" if name == "qwen3" else "5GB")
        save_tokenizer(folder)
        found[name] = (folder, dict(network.state_dict()))
    return found


@pytest.fixture
def folder(made: Any, tmp_path: Path) -> Path:
    """A copy of the Llama that a test may spoil."""
    return Path(shutil.copytree(made["llama"][0], tmp_path / "tiny-llama"))


@pytest.fixture
def sharded(made: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["qwen3"][0], tmp_path / "tiny-qwen3"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_the_network_is_there(made: Any, kind: str) -> None:
    path, state = made[kind]
    checkpoint = open_checkpoint(path)
    parts = list(parts_of(checkpoint.config))
    found = {checkpoint._places[part].tensor: checkpoint.read(part) for part in parts}  # type: ignore[attr-defined]
    if kind == "qwen2":
        assert not checkpoint.has("head")
        state = {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert checkpoint.blocks("embedding") is None
    assert (checkpoint.name, checkpoint.config.family) == (kind, kind)


def test_the_tied_copy_of_the_embedding_is_ignored(made: Any, tmp_path: Path) -> None:
    path = Path(shutil.copytree(made["qwen2"][0], tmp_path / "copy"))
    tensors = load_file(path / "model.safetensors")
    tensors["lm_head.weight"] = torch.zeros_like(tensors["model.embed_tokens.weight"])
    save_file(tensors, path / "model.safetensors")
    assert not open_checkpoint(path).has("head")


def test_the_first_files_of_gpt2_have_other_names_and_a_mask(tmp_path: Path) -> None:
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    network = GPT2LMHeadModel(GPT2Config(vocab_size=len(TOKENS) + 9, bos_token_id=1, eos_token_id=2, **shape))
    network.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    now = open_checkpoint(tmp_path)
    parts = {part: now.read(part) for part in parts_of(now.config)}
    assert torch.equal(parts["layers.1.up"], network.transformer.h[1].mlp.c_fc.weight.T)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    for i in range(2):
        tensors[f"h.{i}.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
        tensors[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, tmp_path / "model.safetensors")
    old = open_checkpoint(tmp_path)
    assert all(torch.equal(old.read(part), parts[part]) for part in parts)


def test_the_norms_of_gemma_are_read_with_their_one(tmp_path: Path) -> None:
    network = tiny.reference("gemma3")
    checkpoint = open_checkpoint(tiny.save(network, tmp_path))
    layer = network.model.layers[1]
    for part, weight in (
        ("layers.1.q_norm", layer.self_attn.q_norm.weight),
        ("layers.1.attention_post_norm", layer.post_attention_layernorm.weight),
        ("layers.1.mlp_norm", layer.pre_feedforward_layernorm.weight),
        ("final_norm", network.model.norm.weight),
    ):
        assert torch.equal(checkpoint.read(part), 1 + weight)
    assert torch.equal(checkpoint.read("layers.1.q"), layer.self_attn.q_proj.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_keep_their_type(folder: Path, dtype: torch.dtype) -> None:
    tensors = {name: t.to(dtype) for name, t in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    found = open_checkpoint(folder).read("layers.1.down")
    assert found.dtype == dtype
    assert torch.equal(found, tensors["model.layers.1.mlp.down_proj.weight"])


def test_tokenizer_is_what_transformers_makes_of_the_folder(folder: Path) -> None:
    ours, reference = open_checkpoint(folder).tokenizer, AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "hello world 12"}]
    for text in ("hello world", "<|im_end|> é 12", "  \n\tx"):
        assert ours.encode(text, special=True) == reference.encode(text, add_special_tokens=False)
    assert list(ours.chat(messages)) == reference.apply_chat_template(messages, return_dict=False)
    assert ours.end_ids == {0, 2}
    assert ours.bos is None
    assert ours.piece(len(TOKENS)) == f"<unused {len(TOKENS)}>"


def rewrite(path: Path, **changed: Any) -> None:
    """Replace fields of a JSON file; None removes one."""
    fields = (json.loads(path.read_text()) if path.exists() else {}) | changed
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))


def test_ends_come_from_every_file_that_names_them(folder: Path) -> None:
    rewrite(folder / "generation_config.json", eos_token_id=[2, 7])
    rewrite(folder / "config.json", eos_token_id=9)
    assert open_checkpoint(folder).tokenizer.end_ids == {0, 2, 7, 9}


@pytest.mark.parametrize(
    ("setting", "processor", "bos"), [(True, False, 1), (False, True, None), (None, True, 1)]
)
def test_bos_as_the_settings_or_else_the_post_processor_say(
    folder: Path, setting: bool | None, processor: bool, bos: int | None
) -> None:
    made = core()
    if processor:
        made.post_processor = processors.TemplateProcessing(
            single=f"{SPECIALS[1]} $A", special_tokens=[(SPECIALS[1], 1)]
        )
    made.enable_truncation(4)  # what is left of a training run must not cut prompts
    made.save(str(folder / "tokenizer.json"))
    rewrite(folder / "tokenizer_config.json", add_bos_token=setting)
    tokenizer = open_checkpoint(folder).tokenizer
    assert tokenizer.bos == bos
    assert len(tokenizer.encode("0 3 4 5 6 7")) == 11


def test_templates_in_every_place(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    named = [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}]
    for value, expected in (("one", "one"), (named, "A"), (None, None)):
        rewrite(folder / "tokenizer_config.json", chat_template=value)
        template = open_checkpoint(folder).tokenizer.template
        assert (template.source if template else None) == expected
    (folder / "chat_template.jinja").write_text("beside")
    rewrite(folder / "tokenizer_config.json", chat_template="one")
    template = open_checkpoint(folder).tokenizer.template
    assert template is not None
    assert template.source == "beside"


def test_every_truncation_is_a_bad_model_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in [*range(0, 64, 3), *range(64, len(whole), len(whole) // 25), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(BadModelFile):
            FolderCheckpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_flipped_byte_never_raises_anything_else(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    refused = 0
    for at in random.integers(0, min(len(whole), 3000), 80):
        data = bytearray(whole)
        data[at] ^= int(random.integers(1, 256))
        path.write_bytes(data)
        try:
            FolderCheckpoint(folder)
        except (BadModelFile, UnsupportedModel):
            refused += 1
    assert refused > 10


def test_a_safetensors_header_that_is_too_long(folder: Path) -> None:
    path = folder / "model.safetensors"
    for length in (2**63, 10**9, 2):
        path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
        with pytest.raises(BadModelFile, match="broken safetensors"):
            FolderCheckpoint(folder)


def test_a_missing_shard(sharded: Path) -> None:
    shards = sorted(sharded.glob("*.safetensors"))
    assert len(shards) > 2
    shards[1].unlink()
    with pytest.raises(BadModelFile, match=shards[1].name):
        FolderCheckpoint(sharded)


def test_a_shard_of_another_model(sharded: Path, folder: Path) -> None:
    shards = sorted(sharded.glob("*.safetensors"))
    shards[1].write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises((BadModelFile, UnsupportedModel)):
        FolderCheckpoint(sharded)


def test_shards_outside_the_folder_are_not_read(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    outside = sharded.parent / "outside.safetensors"
    shutil.copy(sorted(sharded.glob("*.safetensors"))[0], outside)
    rewrite(index, weight_map={"model.norm.weight": "../outside.safetensors"})
    with pytest.raises(BadModelFile, match=r"no outside\.safetensors"):
        FolderCheckpoint(sharded)


@pytest.mark.parametrize(
    ("file", "changed", "error", "says"),
    [
        ("config.json", {"model_type": "mamba"}, UnsupportedModel, "mamba"),
        ("config.json", {"hidden_size": None}, BadModelFile, "hidden_size"),
        ("config.json", {"hidden_size": "wide"}, BadModelFile, "config"),
        ("config.json", {"hidden_size": 64}, BadModelFile, "contradict"),
        ("config.json", {"num_hidden_layers": 3}, BadModelFile, r"layers\.2"),
        ("config.json", {"num_hidden_layers": 1}, UnsupportedModel, r"model\.layers\.1"),
        ("config.json", {"vocab_size": 10}, BadModelFile, r"expected \[10, 32\]"),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, UnsupportedModel, "quantised"),
        ("config.json", {"eos_token_id": 10_000}, BadModelFile, "eos_token_id"),
        ("generation_config.json", {"eos_token_id": "x"}, BadModelFile, "parse"),
        ("tokenizer_config.json", {"eos_token": "<none>"}, BadModelFile, "<none>"),
    ],
)
def test_refuses(
    folder: Path, file: str, changed: dict[str, Any], error: type[ThermoscopeError], says: str
) -> None:
    rewrite(folder / file, **changed)
    with pytest.raises(error, match=says) as caught:
        FolderCheckpoint(folder)
    assert "\n" not in str(caught.value)


def test_refuses_a_tokenizer_that_lacks_a_token(folder: Path) -> None:
    path = folder / "tokenizer.json"
    fields = json.loads(path.read_text())
    assert fields["model"]["vocab"].pop("A") == TOKENS.index("A")
    path.write_text(json.dumps(fields))
    with pytest.raises(BadModelFile, match=f"first being {TOKENS.index('A')}"):
        FolderCheckpoint(folder)


def test_refuses_a_tensor_type_that_it_cannot_run(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UnsupportedModel, match="I8"):
        FolderCheckpoint(folder)


def test_weights_that_are_not_finite(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadModelFile, match="NaN or infinite"):
        FolderCheckpoint(folder).read("final_norm")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_that_is_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadModelFile, match=name):
        FolderCheckpoint(folder)


def test_pickled_weights_are_never_loaded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match="never loaded"):
        FolderCheckpoint(folder)
