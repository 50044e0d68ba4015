"""Every family against `transformers`, on small random weights in float32 and on packed precisions."""

import pytest
import torch

from tests import tiny
from tests.equivalence.agreement import assert_agree
from thermoscope.catalogue.hf_config import read_hf
from thermoscope.engine.replay import replay


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_logits_hidden_states_and_attention_agree(kind, tmp_path):
    network = tiny.reference(kind)
    model = tiny.ours(tiny.save(network, tmp_path))
    tokens = torch.randint(2, tiny.VOCAB, (80,), generator=torch.Generator().manual_seed(1))
    assert_agree(network, model, tokens, spread=0.5)


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_parameters_are_counted_from_the_shape(kind):
    network = tiny.reference(kind)
    assert read_hf(network.config.to_dict()).parameters == network.num_parameters()


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_packed_precision_runs_the_weights_that_it_states(precision, tmp_path):
    """The reference network, given our product's own weights, differs by rounding of activations only."""
    network = tiny.reference("qwen3")
    model = tiny.ours(tiny.save(network, tmp_path), precision)
    with torch.no_grad():
        network.lm_head.weight.copy_(model.decoder.head.weight())
        network.model.embed_tokens.weight.copy_(model.decoder.embedding.float())
        for theirs, layer in zip(network.model.layers, model.decoder.layers, strict=True):
            attention, mlp = theirs.self_attn, theirs.mlp
            qkv = layer.qkv.weight().split((4 * 32, 2 * 32, 2 * 32))
            for module, weight in zip(
                (attention.q_proj, attention.k_proj, attention.v_proj), qkv, strict=True
            ):
                module.weight.copy_(weight)
            attention.o_proj.weight.copy_(layer.output.weight())
            gate, up = layer.gate_up.weight().chunk(2)
            mlp.gate_proj.weight.copy_(gate)
            mlp.up_proj.weight.copy_(up)
            mlp.down_proj.weight.copy_(layer.down.weight())
        tokens = torch.randint(2, tiny.VOCAB, (40,), generator=torch.Generator().manual_seed(2))
        expected = network(tokens[None]).logits[0]
    ours = replay(model, tokens.tolist(), logits=True).logits
    bound = 1e-4 if precision == "fp16" else 0.05 * float(expected.std())
    assert float((ours - expected).abs().mean()) <= bound
