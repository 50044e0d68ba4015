"""What a pass sums up, against loops over all that a replay keeps."""

import math
from itertools import accumulate

import pytest
import torch

from tests.instruments import chains

FIRST = (0, *accumulate(chains.SIZES))


@pytest.fixture(scope="module")
def kept(any_lab):
    return chains.kept(any_lab).kept


def group(at):
    return range(FIRST[at], FIRST[at + 1])


def test_the_card_s_formula_is_the_model_s_attention_in_every_layer_and_head(run):
    assert run.look.formula.shape == (run.config.layers, run.config.heads)
    assert run.look.formula.max() <= 1e-5
    assert run.look.written.max() <= 1e-5
    assert run.look.formula.max() > 0  # two ways, not one


def test_attention_between_groups(run, kept):
    assert run.look.sizes == list(chains.SIZES)
    for layer, head in ((0, 0), (run.config.layers - 1, run.config.heads - 1)):
        weights = kept["attention", layer][head].double()
        for a in range(len(chains.SIZES)):
            for b in range(len(chains.SIZES)):
                expected = sum(float(weights[i, j]) for i in group(a) for j in group(b)) / chains.SIZES[a]
                assert float(run.look.given[layer, head, a, b]) == pytest.approx(expected, abs=1e-6)


def test_what_attention_moves_is_counted_by_its_length(run, kept, any_lab):
    """‖v_j W_O‖ by the head's own columns of the output projection, one token at a time."""
    layer, head = 1, run.config.heads - 1
    output = any_lab.model.model.decoder.layers[layer].output.weight()
    dim, shared = run.config.head_dim, run.config.heads // run.config.kv_heads
    own = output[:, head * dim : (head + 1) * dim]
    lengths = [float((own @ value[head // shared]).norm()) for value in kept["v", layer]]
    weights = kept["attention", layer][head]
    for a in range(1, len(chains.SIZES)):
        for b in range(a + 1):
            shares = []
            for i in group(a):
                moved = [float(weights[i, j]) * lengths[j] for j in range(i + 1)]
                shares.append(sum(moved[j] for j in group(b) if j <= i) / sum(moved))
            expected = sum(shares) / chains.SIZES[a]
            assert float(run.look.moved[layer, head, a, b]) == pytest.approx(expected, abs=1e-5)


def test_entropy_and_what_tokens_received(run, kept):
    for layer in range(run.config.layers):
        weights = kept["attention", layer].double()
        for head, token in ((0, 0), (1, 20), (0, 50)):
            seen = [float(w) for w in weights[head, token] if w > 0]
            expected = -sum(w * math.log(w) for w in seen)
            assert float(run.look.entropy[layer, head, token]) == pytest.approx(expected, abs=1e-5)
        expected = weights[:, : chains.UNTIL].sum((0, 1))
        torch.testing.assert_close(run.look.received[layer].double(), expected, rtol=0, atol=1e-5)


def test_the_stream_at_each_end_and_the_one_head(run, kept):
    ends = [edge - 1 for edge in chains.EDGES]
    for layer in range(run.config.layers + 1):
        torch.testing.assert_close(run.look.stream[layer], kept["residual", layer][ends], rtol=0, atol=1e-5)
    for layer in range(run.config.layers):
        for into, quantity in ((run.look.attended, "attention_out"), (run.look.widened, "mlp_out")):
            torch.testing.assert_close(into[layer], kept[quantity, layer][ends], rtol=0, atol=1e-5)
    last = kept["residual", run.config.layers]
    torch.testing.assert_close(run.look.last, last, rtol=0, atol=1e-5)
    layer, head = chains.HEAD
    torch.testing.assert_close(run.look.map, kept["attention", layer][head], rtol=0, atol=1e-6)
