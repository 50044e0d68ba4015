"""Random models run the way of every request, and their steps are taken apart."""

import torch

from thermoscope.catalogue.config import ModelConfig
from thermoscope.instruments import _trial as trial
from thermoscope.models.kernels import build
from thermoscope.models.product import Dense

SMALL = ModelConfig(
    family="llama", vocab=96, hidden=64, layers=3, heads=4, kv_heads=2, head_dim=16, ffn=96, context=1024,
    norm_eps=1e-5, tied=True,
)  # fmt: skip


def test_every_layer_is_a_copy_of_one_and_none_the_same_memory():
    decoder = trial.model(SMALL, "fp32").decoder
    first, last = decoder.layers[0].down, decoder.layers[2].down
    assert isinstance(first, Dense)
    assert torch.equal(first.weight(), last.weight())
    assert first.weight().data_ptr() != last.weight().data_ptr()
    assert first.weight().shape == (64, 96)


def test_steps_of_every_run_are_taken_apart():
    runs = (trial.Run(2, 1, 5), trial.Run(1, 7, 3))
    with trial.Trial("fp32", [SMALL, SMALL]) as bench:
        timings = list(bench.timings(runs))
        handed = bench.handed()
    assert [(each.shape, each.run) for each in timings] == [(at, run) for at in (0, 1) for run in runs]
    for each in timings:
        (count,) = {len(seconds) for seconds in each.parts.values()}
        assert 2 <= count <= trial.SWEEPS * (trial.STEPS + 1)
        assert min(each.parts["layers"]) > 0
        assert each.whole()[0] == sum(each.parts[part][0] for part in ("layers", "head", "sampler"))
    assert set(handed.steps) == set(trial.BATCHES)
    assert handed.request > 0


def test_the_kernel_is_left_as_many_threads_as_it_had(kernel, monkeypatch):
    monkeypatch.setattr(build.loaded(), "threads", 3)
    with trial.Trial("fp32", [SMALL]) as bench:
        next(bench.timings([trial.Run(1, 1, 5)]))
        assert build.loaded().threads == 1
    assert build.loaded().threads == 3


def test_a_step_begins_with_its_layers():
    events = [
        (0.0, "python"), (1.0, "layers"), (3.0, "head"), (3.5, "sampler"), (4.0, "python"), (4.5, "python"),
        (6.5, "layers"), (7.0, "head"),
    ]  # fmt: skip
    found = trial._parts(events)
    assert found == {"layers": [1.0, 2.0], "head": [2.0, 0.5], "sampler": [0.5, 0.0], "python": [1.0, 0.0]}


def test_random_weights_make_every_part_of_a_decoder():
    config = trial.SHAPES[0]
    weights = trial.Random(config)
    assert weights.has("layers.23.down")
    assert not weights.has("layers.24.down")
    assert weights.read("layers.0.down").shape == (512, 1536)
    assert torch.equal(trial.Random(config).read("embedding"), trial.Random(config).read("embedding"))
