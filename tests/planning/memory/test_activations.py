from dataclasses import replace

import pytest
import torch

from tests.planning.memory.shapes import LATENT, MIXTURE, SMALL
from thermoscope.planning.memory.activations import Trained, layer
from thermoscope.planning.memory.adapter import Adapter
from thermoscope.planning.memory.stack import STACKS, stack

TOKENS = 512
WHOLE = Trained(weights=True)


def kept_by_transformers(layers, attention, *, frozen=False, family="Llama", autocast=False):
    """Bytes a token that autograd saves in transformers' network of SMALL's shape, without parameters and
    what autocast makes of them.
    """
    import transformers

    config = getattr(transformers, f"{family}Config")(
        vocab_size=64, hidden_size=256, intermediate_size=704, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=TOKENS,
        attn_implementation=attention,
    )  # fmt: skip
    model = getattr(transformers, f"{family}Model")(config).train()
    model = model if autocast else model.bfloat16()
    model.layers.requires_grad_(not frozen)
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    casts = {turned for each in model.parameters() for turned in (each.shape, each.shape[::-1])}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and not (autocast and tensor.shape in casts):
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    cast = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), cast:
        model(torch.zeros(1, TOKENS, dtype=torch.long), use_cache=False)
    return sum(size for size, _ in saved.values()) / TOKENS


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_layer_keeps_what_autograd_saves(attention, frozen):
    """The difference of two depths is one layer."""
    saved = [kept_by_transformers(layers, attention, frozen=frozen) for layers in (2, 3)]
    trained = Trained() if frozen else WHOLE
    counted = layer(SMALL, 0, trained, stack("transformers"), attention, context=TOKENS)
    assert counted.kept == saved[1] - saved[0]


@pytest.mark.parametrize("frozen", [False, True])
def test_norms_of_queries_and_keys_keep_their_copies(frozen):
    saved = [kept_by_transformers(layers, "sdpa", frozen=frozen, family="Qwen3") for layers in (2, 3)]
    normed = replace(SMALL, qk_norm="head")
    counted = layer(normed, 0, Trained(weights=not frozen), stack("transformers"), "sdpa", context=TOKENS)
    assert counted.kept == saved[1] - saved[0]


def test_under_autocast_the_stream_is_wide_and_each_matrix_casts_it():
    saved = [kept_by_transformers(layers, "sdpa", autocast=True) for layers in (2, 3)]
    counted = layer(SMALL, 0, WHOLE, stack("transformers"), "sdpa", context=TOKENS, stream=4)
    assert counted.kept == saved[1] - saved[0]


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
