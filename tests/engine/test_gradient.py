"""Gradients by the layer against finite differences in float64, and against autograd through transformers."""

import pytest
import torch

from tests import tiny
from thermoscope.engine.gradient import gradients
from thermoscope.engine.replay import replay
from thermoscope.errors import ContextExceeded, InvalidRequest, UnsupportedModel
from thermoscope.models import pack
from thermoscope.models.adapter import Adapter
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.exact import Exact
from thermoscope.models.model import Model

RANDOM = torch.Generator().manual_seed(9)
ITEMS = [
    (torch.randint(2, tiny.VOCAB, (length,), generator=RANDOM).tolist(), target)
    for length, target in ((23, [7]), (23, [11, 5]), (20, [3, 8, 40]))
]
FAMILIES = ["llama", "mistral", "qwen3", "qwen3-moe", "gemma3", "gpt2", "olmo2"]


@pytest.fixture(scope="module", params=FAMILIES)
def both(request, tmp_path_factory):
    network = tiny.reference(request.param)
    return network, tiny.ours(tiny.save(network, tmp_path_factory.mktemp(request.param)))


def logprob(exact, layer, stream, item):
    """log p(target | prompt) from the stream of all rows at a layer, the rest of the network run at once."""
    prompt, target = item
    h = exact.onward(layer, stream, [len(prompt) + len(target) - 1])
    law = exact.head(h[len(prompt) - 1 :]).log_softmax(-1)
    return law[range(len(target)), target].sum()


def whole_stream(exact, item):
    """The stream of each layer, by running the network itself."""
    prompt, target = item
    rows = [*prompt, *target[:-1]]
    plan, sheet = exact.layout([len(rows)])
    states = [exact.embed(rows, plan)]
    for index in range(exact.config.layers):
        states.append(exact.block(index, states[-1], plan, sheet))
    return states


def test_the_slope_along_the_gradient_is_its_square(both):
    """d/dβ log p(y | h + β∇) at β = 0 = ‖∇‖², central differences in float64, at the last position."""
    exact = Exact(both[1].decoder, torch.float64)
    found = gradients(exact, ITEMS)
    for item, gradient in zip(ITEMS, found, strict=True):
        at = len(item[0]) - 1
        states = whole_stream(exact, item)
        for layer in range(exact.config.layers + 1):
            slope = gradient.by_layer[layer][at]
            size = float(slope.norm())
            step = 1e-4 / size

            def moved(beta, layer=layer, at=at, slope=slope, states=states, item=item):
                stream = states[layer].clone()
                stream[at] += beta * slope
                return float(logprob(exact, layer, stream, item))

            measured = (8 * (moved(step) - moved(-step)) - moved(2 * step) + moved(-2 * step)) / (12 * step)
            assert measured == pytest.approx(size**2, rel=1e-5)


def test_gradients_are_those_that_autograd_finds_in_transformers(both):
    network, model = both
    found = gradients(Exact(model.decoder), ITEMS)
    for (prompt, target), gradient in zip(ITEMS, found, strict=True):
        tokens = torch.tensor([[*prompt, *target[:-1]]])
        told = network(tokens, output_hidden_states=True)
        law = told.logits[0, len(prompt) - 1 :].log_softmax(-1)
        score = law[range(len(target)), target].sum()
        assert gradient.logprob == pytest.approx(float(score.detach()), abs=1e-4)
        expected = torch.autograd.grad(score, told.hidden_states[:-1])
        for layer, each in enumerate(expected):
            ours = gradient.by_layer[layer]
            assert ours.shape == (len(prompt), model.config.hidden)
            scale = float(each.abs().max())
            torch.testing.assert_close(ours, each[0, : len(prompt)], rtol=0, atol=1e-4 * scale)
            torch.testing.assert_close(
                gradient.stream[layer], told.hidden_states[layer][0, : len(prompt)], rtol=0, atol=1e-4
            )


def test_items_do_not_touch_each_other_and_only_layers_asked_for_come(both):
    exact = Exact(both[1].decoder, torch.float64)
    together = gradients(exact, ITEMS)
    for item, expected in zip(ITEMS, together, strict=True):
        (alone,) = gradients(exact, [item], layers=[1, 3])
        assert set(alone.by_layer) == set(alone.stream) == {1, 3}
        for layer in (1, 3):
            torch.testing.assert_close(alone.by_layer[layer], expected.by_layer[layer], rtol=0, atol=1e-10)
            torch.testing.assert_close(alone.stream[layer], expected.stream[layer], rtol=0, atol=1e-10)


def test_the_network_is_the_one_that_speaks(both):
    """In float32 the states, the lens and the log-probabilities are the replay's."""
    model, tokens = both[1], ITEMS[0][0]
    exact = Exact(model.decoder)
    seen = replay(model, tokens, keep=["residual"], logits=True)
    states = whole_stream(exact, (tokens, [5]))
    for layer in range(model.config.layers + 1):
        torch.testing.assert_close(states[layer], seen.kept["residual", layer], rtol=0, atol=1e-4)
    torch.testing.assert_close(exact.head(states[-1]), seen.logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["int4", "int8", "fp16", "bf16"])
def test_it_multiplies_with_the_model_s_own_rounded_weights(precision, kernel, tmp_path):
    checkpoint = open_checkpoint(tiny.save(tiny.reference("llama"), tmp_path))
    native = precision in ("int4", "int8")
    decoder = pack.build(checkpoint.config, dict(pack.pack(checkpoint, precision, native=native)))
    model = Model(checkpoint.name, precision, checkpoint.config, checkpoint.tokenizer, decoder)
    exact, tokens = Exact(decoder), ITEMS[0][0]
    layer = exact._layer(1)
    assert torch.equal(layer.qkv.weight(), decoder.layers[1].qkv.weight())
    seen = replay(model, tokens, keep=["residual"])
    difference = whole_stream(exact, (tokens, [5]))[-1] - seen.kept["residual", 3]
    assert difference.norm() <= 0.05 * seen.kept["residual", 3].norm()


@pytest.mark.parametrize(
    ("items", "layers", "error", "message"),
    [
        ([], None, InvalidRequest, "items: got none"),
        ([([], [3])], None, InvalidRequest, "prompt: got no tokens"),
        ([([3], [])], None, InvalidRequest, "target: got no tokens"),
        ([([3], [96])], None, InvalidRequest, "target: got token id 96, expected 0 to 95"),
        ([([3], [4])], [4], InvalidRequest, "layers: got 4, expected 0 to 3"),
        ([([3], [4])], [], InvalidRequest, "layers: got none"),
        ([([3] * 256, [4, 4])], None, ContextExceeded, "got 258 tokens of prompt and target"),
    ],
)
def test_what_has_no_gradient_is_refused_in_one_line(model, items, layers, error, message):
    with pytest.raises(error, match=message):
        gradients(Exact(model.decoder), items, layers)


def test_a_network_of_transformers_is_refused():
    adapter = Adapter.__new__(Adapter)
    adapter.config = type("Config", (), {"family": "stablelm"})()
    with pytest.raises(UnsupportedModel, match="got a stablelm"):
        Exact(adapter)
