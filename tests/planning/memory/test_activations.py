from dataclasses import replace

import pytest
import torch

from tests.planning.memory.shapes import LATENT, MIXTURE, SMALL
from thermoscope.planning.memory.activations import Trained, layer
from thermoscope.planning.memory.adapter import Adapter
from thermoscope.planning.memory.stack import STACKS, stack

TOKENS = 480  # no width of a network here, so that no activation has the shape of a weight
WHOLE = Trained(weights=True)
DEFAULTS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
OURS = {  # what stands for the family beside SMALL's sizes, and what its configuration needs beside them
    "Llama": ({}, {}),
    "Qwen3": ({"qk_norm": "head"}, {}),
    "Olmo2": ({"qk_norm": "whole", "norm_float32": True}, {}),
    "Gemma": ({"norm_float32": True}, {}),
    "Gemma3Text": ({"qk_norm": "head", "norm_float32": True, "norms": 4}, {}),
    "Olmo": ({"norm": "layer", "norm_weight": False, "norm_float32": True}, {}),
    "Cohere": (
        {"norm": "layer", "norm_float32": True, "norms": 1, "parallel_block": True, "qk_norm": "whole"},
        {"use_qk_norm": True},
    ),
    "StableLm": ({"norm": "layer", "norm_bias": True, "qk_norm": "whole"}, {"qk_layernorm": True}),
    "Phi3": ({"fused_qkv": True}, {}),
    "GPT2": (
        {
            **{"norm": "layer", "norm_bias": True, "gated": False, "positions": "learned"},
            **{"kv_heads": 4, "fused_qkv": True},
        },
        {
            **{"activation_function": "gelu_pytorch_tanh", "n_inner": 704},
            **{"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0},
        },
    ),
}


def kept_by_transformers(layers, attention, *, frozen=False, family="Llama", autocast=False):
    """Bytes that autograd saves in transformers' network of SMALL's shape, without parameters and what
    autocast or a norm makes of them.
    """
    import transformers

    config = getattr(transformers, f"{family}Config")(
        vocab_size=64, hidden_size=256, intermediate_size=704, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=640,
        attn_implementation=attention, **DEFAULTS, **OURS[family][1],
    )  # fmt: skip
    model = transformers.AutoModel.from_config(config).train()
    model = model if autocast else model.bfloat16()
    (model.h if family == "GPT2" else model.layers).requires_grad_(not frozen)
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    made = {turned for each in model.parameters() for turned in (each.shape, each.shape[::-1])}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tensor.shape not in made:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    cast = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), cast:
        model(torch.zeros(1, TOKENS, dtype=torch.long), use_cache=False)
    return sum(size for size, _ in saved.values())


def saved_and_counted(attention, **how):
    """Bytes a token of one layer, the difference of two depths; autograd's and ours."""
    two, three = (kept_by_transformers(layers, attention, **how) for layers in (2, 3))
    shape = replace(SMALL, **OURS[how["family"]][0])
    counted = layer(
        shape, 0, Trained(weights=not how["frozen"]), stack("transformers"), attention, context=TOKENS,
        stream=4 if how["autocast"] else None,
    )  # fmt: skip
    return (three - two) / TOKENS, counted.kept


@pytest.mark.parametrize("frozen", [False, True], ids=["full", "frozen"])
@pytest.mark.parametrize("autocast", [False, True], ids=["bf16", "amp"])
@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Olmo2", "Gemma", "Gemma3Text", "Olmo", "Cohere"])
def test_a_layer_keeps_what_autograd_saves(family, autocast, frozen):
    """Under autocast the stream is wide, and each matrix casts it."""
    saved, counted = saved_and_counted("sdpa", family=family, autocast=autocast, frozen=frozen)
    assert counted == saved


@pytest.mark.parametrize("frozen", [False, True], ids=["full", "frozen"])
def test_eager_attention_keeps_its_scores(frozen):
    saved, counted = saved_and_counted("eager", family="Llama", autocast=False, frozen=frozen)
    assert counted == saved


@pytest.mark.parametrize("autocast", [False, True], ids=["bf16", "amp"])
def test_v_keeps_all_of_one_product_that_positions_copy_q_and_k_out_of(autocast):
    saved, counted = saved_and_counted("sdpa", family="Phi3", autocast=autocast, frozen=True)
    assert counted == saved


@pytest.mark.parametrize(
    ("family", "frozen"), [("GPT2", False), ("GPT2", True), ("StableLm", True)]
)  # under autocast alone: in bf16 a CPU rounds the mean and the deviation of a LayerNorm, a GPU does not
def test_layer_norms_and_a_fused_product_under_autocast(family, frozen):
    """GPT-2's one product for Q, K and V casts what it reads once; StableLM's norms work head by head."""
    saved, counted = saved_and_counted("sdpa", family=family, autocast=True, frozen=frozen)
    assert counted == saved


def test_flash_attention_has_no_quadratic_term():
    def scores(attention, context):
        return layer(SMALL, 0, WHOLE, STACKS["transformers"], attention, context=context).scores

    assert scores("flash", 512) == scores("flash", 4096) == 0
    assert scores("eager", 1024) == 2 * scores("eager", 512) == 4 * 1024 * (4 + 2)


def test_adapters_keep_their_inputs_and_masks():
    def adapters(adapter, name="transformers"):
        return layer(SMALL, 0, Trained(adapter=adapter), STACKS[name], "flash", context=1).adapters

    assert adapters(Adapter(rank=8, targets=("q", "v"))) == 2 * (256 * (2 + 1) + 2 * 8)
    assert adapters(Adapter(rank=8, targets=("q", "v"), dropout=False)) == 256 * 2 + 2 * 2 * 8
    assert adapters(Adapter(rank=8, targets=("q", "v")), "transformers-pure") == 2 * (256 * (4 + 1) + 2 * 8)
    assert adapters(Adapter(rank=8, targets=("q", "k", "v")), "litgpt") == 256 * 3 + 3 * 2 * 8
    assert adapters(Adapter(rank=8, targets=("down",))) == 704 * 3 + 2 * 8


def test_only_the_experts_at_work_count():
    dense, sparse = (
        layer(MIXTURE, at, WHOLE, STACKS["transformers"], "flash", context=1).mlp for at in (0, 1)
    )
    assert dense == 2 * 128 * 4
    assert sparse == 2 * (2 * 96) * 4 + 2 * 64 * 2 * 2


def test_latent_attention_keeps_the_unfolded_heads():
    kept = layer(LATENT, 0, Trained(), STACKS["transformers"], "flash", context=1).attention
    assert kept == 2 * 4 * (24 + 24 + 12 + 12) + 4 * 4


def test_tensor_parallelism_splits_all_but_the_stream():
    one, two = (
        layer(SMALL, 0, WHOLE, STACKS["transformers"], "flash", context=1, split=split) for split in (1, 2)
    )
    assert (two.attention, two.mlp) == (one.attention / 2, one.mlp / 2)
    assert two.norms == one.norms
