"""What is changed changes what it should and nothing else, in every decoder that there is."""

import pytest
import torch

from tests import tiny
from thermoscope.engine import replay as module
from thermoscope.engine.counterfactual import Counterfactual
from thermoscope.engine.replay import QUANTITIES, joined, replay
from thermoscope.errors import InvalidRequest
from thermoscope.models import pack
from thermoscope.models.cache import Span
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.fused import Fused
from thermoscope.models.intervention import Add, Overwrite, Patch, Suppress
from thermoscope.models.model import Model

COUNT, SPLIT = 90, 50  # past the native step's sections of 32, past windows of 16
TOKENS = torch.randint(2, tiny.VOCAB, (COUNT,), generator=torch.Generator().manual_seed(6)).tolist()
OTHERS = torch.randint(2, tiny.VOCAB, (COUNT,), generator=torch.Generator().manual_seed(7)).tolist()
FAMILIES = ["llama", "mistral", "gemma3", "gpt2", "native llama", "native mistral", "native gemma3"]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    native, _, kind = request.param.rpartition(" ")
    folder = tiny.save(tiny.reference(kind), tmp_path_factory.mktemp(kind))
    if not native:
        return tiny.ours(folder)
    request.getfixturevalue("kernel")
    checkpoint = open_checkpoint(folder)
    decoder = pack.build(checkpoint.config, dict(pack.pack(checkpoint, "int8", native=True)))
    assert isinstance(decoder, Fused)
    return Model(checkpoint.name, "int8", checkpoint.config, checkpoint.tokenizer, decoder)


def same(model):
    """Whether two ways to one number give the same bits: the native step's do."""
    return {"rtol": 0, "atol": 0 if model.native else 2e-5}


@pytest.fixture(scope="module")
def plain(model):
    return replay(model, TOKENS, keep=QUANTITIES, logits=True)


@pytest.fixture(scope="module")
def other(model):
    return replay(model, OTHERS, keep=QUANTITIES, logits=True)


def test_suppressing_nothing_changes_nothing(model, plain):
    for nothing in (
        Suppress(()),
        Suppress((), ()),
        Suppress((3,), ()),
        Suppress((3,), (1, 3)),
        Suppress((3,), layers=()),
    ):
        again = replay(model, TOKENS, keep=QUANTITIES, logits=True, interventions=[nothing])
        assert torch.equal(again.logits, plain.logits)
        assert all(torch.equal(again.kept[place], plain.kept[place]) for place in plain.kept)


def test_what_is_suppressed_gets_no_attention_and_the_rest_shares_it(model, plain):
    """Weights of the first layer, whose q and k are the same: softmax over what is left."""
    keys, queries = range(10, 45), (30, 47, 80)
    got = replay(model, TOKENS, keep=["attention"], layers=[0], interventions=[Suppress(keys, queries)])
    got, was = got.kept["attention", 0], plain.kept["attention", 0]
    expected = was.clone()
    for query in queries:
        gone = torch.tensor([key for key in keys if key != query])
        expected[:, query, gone] = 0
    expected /= expected.sum(-1, keepdim=True)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_suppression_of_all_before_in_all_layers_is_the_truncated_prompt_with_positions_kept(model):
    """What stood before does not matter, to the bit; and rotary positions are relative."""
    got = replay(model, TOKENS, logits=True, interventions=[Suppress(range(SPLIT))]).logits
    others = [*OTHERS[:SPLIT], *TOKENS[SPLIT:]]
    again = replay(model, others, logits=True, interventions=[Suppress(range(SPLIT))]).logits
    assert torch.equal(got[SPLIT:], again[SPLIT:])
    if model.config.learned_positions:
        return
    alone = replay(model, TOKENS[SPLIT:], logits=True).logits
    differences = (got[SPLIT:] - alone).abs()
    if model.native:  # what turned otherwise is rounded otherwise
        assert differences.mean() <= 0.05
    else:
        assert differences.max() <= 1e-4


def test_only_later_queries_and_named_layers_are_touched(model, plain):
    for layers in (None, [1], [2]):
        got = replay(model, TOKENS, keep=QUANTITIES, interventions=[Suppress(range(20, 30), layers=layers)])
        for (quantity, layer), value in got.kept.items():
            was = plain.kept[quantity, layer]
            rows = slice(None, 30)
            if quantity == "attention":
                assert torch.equal(value[:, rows], was[:, rows])
            else:
                assert torch.equal(value[rows], was[rows])
            untouched = layers is not None and layer < layers[0]
            if untouched and quantity != "residual":
                assert torch.equal(value, was)
        last = ("residual", model.config.layers)
        assert not torch.equal(got.kept[last], plain.kept[last])


def test_the_other_s_last_residual_gives_the_other_s_distribution(model, other):
    """After the last layer nothing but that row counts."""
    top = model.config.layers
    row = other.kept["residual", top][-1:]
    got = replay(model, TOKENS, logits=True, interventions=[Patch(top, [COUNT - 1], row)])
    torch.testing.assert_close(got.logits[-1], other.logits[-1], **same(model))


def test_at_a_lower_layer_it_does_so_with_the_later_keys_and_values_of_the_prompt(model, other, plain):
    for layer in range(model.config.layers):
        before = range(COUNT - 1)
        patch = Patch(layer, [COUNT - 1], other.kept["residual", layer][-1:])
        memory = [
            Overwrite(i, before, other.kept["k", i][:-1], other.kept["v", i][:-1])
            for i in range(layer, model.config.layers)
        ]
        got = replay(model, TOKENS, logits=True, interventions=[patch, *memory])
        torch.testing.assert_close(got.logits[-1], other.logits[-1], **same(model))
        assert torch.equal(got.logits[:-1], plain.logits[:-1]) or not model.native
        without = replay(model, TOKENS, logits=True, interventions=[patch])
        assert not torch.equal(without.logits[-1], other.logits[-1])


def test_a_vector_added_to_the_stream_is_a_patch_of_the_sum(model, plain):
    vector = torch.randn(model.config.hidden, generator=torch.Generator().manual_seed(3))
    for layer in (0, 1, model.config.layers):
        rows = plain.kept["residual", layer] + vector
        for positions in (None, [5, 40], [COUNT - 1]):
            where = list(range(COUNT)) if positions is None else positions
            added = replay(model, TOKENS, logits=True, interventions=[Add(layer, vector, positions)])
            patched = replay(model, TOKENS, logits=True, interventions=[Patch(layer, where, rows[where])])
            assert torch.equal(added.logits, patched.logits)
            assert not torch.equal(added.logits, plain.logits)


def test_neighbours_in_a_call_are_not_touched(model):
    """Two sequences in one call, one of them changed: the other's bits are as in a call with no change."""
    vector = torch.ones(model.config.hidden)
    rows, spans = [*TOKENS[:40], *OTHERS[:40]], [Span(0, 0, 40), Span(1, 0, 40)]
    both = [None, {0: [Add(1, vector), Suppress(range(5))]}]
    with torch.inference_mode():
        one, two = (
            model.decoder.forward(rows, spans, model.cache(slots=2, context=40), None, changes)
            for changes in both
        )
    assert torch.equal(one[40:], two[40:])
    assert not torch.equal(one[:40], two[:40])


CHANGES = [
    [Suppress(range(20, 30))],
    [Suppress([60], [70, 80], [1])],
    [Suppress(range(5)), Suppress(range(60, 70), layers=[0])],
    [Add(1, torch.ones(64), [88])],
    [Add(0, torch.ones(64))],
]


@pytest.mark.parametrize("index", range(len(CHANGES)))
@pytest.mark.parametrize("chunk", [128, 16])
def test_a_counterfactual_is_the_replay_with_interventions(model, index, chunk, monkeypatch):
    monkeypatch.setattr(module, "PREFILL_CHUNK", chunk)
    whole = replay(model, TOKENS, logits=True, interventions=CHANGES[index])
    sequence = Counterfactual(model, TOKENS)
    first = joined(TOKENS, list(sequence.plain(logits=True)))
    assert torch.equal(first.logits, replay(model, TOKENS, logits=True).logits)
    for _ in range(2):  # the plain pass is still there afterwards
        parts = list(sequence.changed(CHANGES[index], logits=True))
        start = parts[0].start
        got = torch.cat([part.logits for part in parts])
        assert start + len(got) == COUNT
        torch.testing.assert_close(got, whole.logits[start:], **same(model))
        torch.testing.assert_close(first.logits[:start], whole.logits[:start], **same(model))
        assert not torch.equal(got[0], first.logits[start])


@pytest.mark.parametrize("second", [20, 50])
def test_a_counterfactual_reads_keys_and_values_that_are_overwritten(model, other, second):
    """The first position that reads them is the one that it begins at."""
    changes = [
        Overwrite(layer, range(end), other.kept["k", layer][:end], other.kept["v", layer][:end])
        for layer, end in ((1, 20), (2, second))
    ]
    whole = replay(model, TOKENS, logits=True, interventions=changes)
    sequence = Counterfactual(model, TOKENS)
    first = joined(TOKENS, list(sequence.plain(logits=True)))
    got = torch.cat([part.logits for part in sequence.changed(changes, logits=True)])
    assert len(got) == COUNT - 20
    torch.testing.assert_close(got, whole.logits[20:], **same(model))
    assert not torch.equal(got[0], first.logits[20])


def test_where_nothing_changes_nothing_is_run(model):
    sequence = Counterfactual(model, TOKENS)
    with pytest.raises(InvalidRequest, match="was not run"):
        sequence.changed([])
    list(sequence.plain())
    assert list(sequence.changed([])) == []
    assert list(sequence.changed([Suppress([COUNT - 1])])) == []


@pytest.mark.parametrize("start", [0, 20, SPLIT, COUNT])
def test_another_end_is_the_replay_of_what_then_stands_there(model, start):
    sequence = Counterfactual(model, TOKENS, room=COUNT + 30)
    list(sequence.plain())
    for end in (OTHERS[:30], OTHERS[: COUNT + 30 - start]):
        whole = replay(model, [*TOKENS[:start], *end], logits=True)
        parts = list(sequence.instead(start, end, logits=True))
        assert parts[0].start == start
        got = torch.cat([part.logits for part in parts])
        torch.testing.assert_close(got, whole.logits[start:], **same(model))
    with pytest.raises(
        InvalidRequest, match=rf"got {COUNT + 40} tokens in all, expected at most {COUNT + 30}"
    ):
        sequence.instead(COUNT, OTHERS[:40])
    with pytest.raises(InvalidRequest, match=f"start: got {COUNT + 1}, expected 0 to {COUNT}"):
        sequence.instead(COUNT + 1, OTHERS[:1])


def test_the_memory_is_what_the_cache_holds_of_the_plain_pass(model, plain):
    sequence = Counterfactual(model, TOKENS)
    list(sequence.plain())
    list(sequence.changed([Suppress(range(20))]))
    for layer in range(model.config.layers):
        for held, quantity in zip(sequence.memory(layer, 70), "kv", strict=True):
            expected = plain.kept[quantity, layer][:70].transpose(0, 1)
            assert torch.equal(held, expected.to(held.dtype))


def test_what_is_seen_piece_by_piece_is_what_is_kept(model, plain, monkeypatch):
    monkeypatch.setattr(module, "PREFILL_CHUNK", 16)
    seen = {}

    def see(quantity, layer, start, rows):
        assert rows.shape[1 if quantity == "attention" else 0] <= 16
        if quantity == "attention":
            rows = torch.nn.functional.pad(rows, (0, COUNT - rows.shape[-1]))
        seen.setdefault((quantity, layer), {})[start] = rows.clone()

    for part in module.chunks(model, TOKENS, keep=["attention", "head_out", "residual"], see=see):
        assert part.kept == {}
    for (quantity, layer), parts in seen.items():
        got = torch.cat([parts[start] for start in sorted(parts)], dim=1 if quantity == "attention" else 0)
        # A probe's weights, and what they mix, are PyTorch's, which on some processors rounds no two shapes
        # of a product alike. 5e-6 of the largest number are 42 of its last places.
        whole, exact = plain.kept[quantity, layer], model.native and quantity == "residual"
        largest = float(whole.abs().max())
        torch.testing.assert_close(got, whole, rtol=0, atol=0 if exact else 5e-6 * largest)


ONE = torch.ones(64)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Suppress([COUNT]), f"suppress: position: got {COUNT}, expected 0 to {COUNT - 1}"),
        (Suppress([1], [-1]), "suppress: position: got -1"),
        (Suppress([1], layers=[3]), "suppress: layer: got 3, expected 0 to 2"),
        (Patch(4, [1], ONE[None]), "patch: layer: got 4, expected 0 to 3"),
        (Patch(1, [1, 2], ONE[None]), r"patch: got a tensor of shape \[1, 64\], expected \[2, 64\]"),
        (Add(1, torch.ones(3)), r"add: got a tensor of shape \[3\], expected \[64\]"),
        (Overwrite(1, [], ONE.new_empty(0, 2, 16), ONE.new_empty(0, 2, 16)), "expected at least one"),
        (Overwrite(3, [1], ONE, ONE), "overwrite: layer: got 3, expected 0 to 2"),
    ],
)
def test_what_has_no_place_is_refused_in_one_line(model, change, message):
    with pytest.raises(InvalidRequest, match=message):
        replay(model, TOKENS, interventions=[change])
    sequence = Counterfactual(model, TOKENS)
    list(sequence.plain())
    with pytest.raises(InvalidRequest, match=message):
        sequence.changed([change])
