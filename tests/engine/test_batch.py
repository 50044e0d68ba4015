"""Sequences side by side give what each gives alone, as it is and with something changed."""

import pytest
import torch

from tests import tiny
from thermoscope.engine.batch import Batch
from thermoscope.engine.replay import replay
from thermoscope.errors import ContextExceeded, InvalidRequest
from thermoscope.models import pack
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.intervention import Add, Overwrite, Patch, Suppress
from thermoscope.models.model import Model

RANDOM = torch.Generator().manual_seed(3)
SEQUENCES = [torch.randint(2, tiny.VOCAB, (length,), generator=RANDOM).tolist() for length in (5, 41, 3, 17)]
SEQUENCES.append([*SEQUENCES[1][:-1], 9])  # begins as another does


@pytest.fixture(scope="module", params=["plain", "native"])
def model(request, tmp_path_factory):
    folder = tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("llama"))
    if request.param == "plain":
        return tiny.ours(folder)
    request.getfixturevalue("kernel")
    checkpoint = open_checkpoint(folder)
    decoder = pack.build(checkpoint.config, dict(pack.pack(checkpoint, "int8", native=True)))
    return Model(checkpoint.name, "int8", checkpoint.config, checkpoint.tokenizer, decoder)


def alone(model, sequence, interventions=()):
    found = replay(model, sequence, keep=["residual"], logits=True, interventions=interventions)
    states = [found.kept["residual", layer][-1] for layer in range(model.config.layers + 1)]
    return found.logits[-1], states


def same(model, one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0 if model.native else 2e-5)


@pytest.mark.parametrize("tail", [1, 3])
def test_every_sequence_is_as_it_is_alone_and_stays_so(model, tail):
    batch = Batch(model, SEQUENCES, tail=tail)
    layers = range(model.config.layers + 1)
    for _ in range(2):
        last = batch.run(layers=layers)
        for index, sequence in enumerate(SEQUENCES):
            logits, states = alone(model, sequence)
            same(model, last.logits[index], logits)
            for layer in layers:
                same(model, last.states[layer][index], states[layer])


def test_each_has_its_own_interventions(model):
    vector = torch.randn(model.config.hidden, generator=RANDOM)
    changes = [
        [Add(1, vector, [len(sequence) - 1]), Patch(2, [len(sequence) - 1], index * vector[None])]
        for index, sequence in enumerate(SEQUENCES)
    ]
    changes[0], changes[1] = [], [Suppress([1, 2], [len(SEQUENCES[1]) - 1])]
    batch = Batch(model, SEQUENCES)
    plain = batch.run().logits
    last = batch.run(changes)
    for index, sequence in enumerate(SEQUENCES):
        same(model, last.logits[index], alone(model, sequence, changes[index])[0])
    assert (last.logits[1:] != plain[1:]).any(dim=1).all()
    same(model, batch.run().logits, plain)


def test_patching_the_last_layer_with_another_s_state_gives_its_distribution(model):
    one, other = SEQUENCES[1], SEQUENCES[3]
    top = model.config.layers
    state = Batch(model, [other]).run(layers=[top])
    patched = Batch(model, [one]).run([[Patch(top, [len(one) - 1], state.states[top])]])
    torch.testing.assert_close(patched.logits, state.logits, rtol=0, atol=0)


def test_going_on_from_a_layer_is_patching_what_it_finds(model):
    batch = Batch(model, SEQUENCES)
    plain = batch.run().logits
    for layer in range(model.config.layers + 1):
        rows = torch.randn(len(SEQUENCES), model.config.hidden, generator=RANDOM)
        changes = [
            [Patch(layer, [len(sequence) - 1], row[None])]
            for sequence, row in zip(SEQUENCES, rows, strict=True)
        ]
        before = rows.clone()
        same(model, batch.onward(layer, rows), batch.run(changes).logits)
        assert torch.equal(rows, before)
    same(model, batch.run().logits, plain)


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(InvalidRequest, match="sequences: got none"):
        Batch(model, [])
    with pytest.raises(InvalidRequest, match="sequence: got 2 tokens, expected at least 3"):
        Batch(model, [[5, 6]], tail=3)
    with pytest.raises(InvalidRequest, match="got token id 96, expected 0 to 95"):
        Batch(model, [[5, 96]])
    with pytest.raises(ContextExceeded, match="got 257 tokens, expected at most 256"):
        Batch(model, [[5] * 257])
    with pytest.raises(InvalidRequest, match="patch: layer: got 4"):
        Batch(model, [[5, 6]]).run([[Patch(4, [1], torch.zeros(1, model.config.hidden))]])
    memory = torch.zeros(1, model.config.kv_heads, model.config.head_dim)
    with pytest.raises(InvalidRequest, match="overwrite: got one in a batch"):
        Batch(model, [[5, 6]]).run([[Overwrite(0, [0], memory, memory)]])
