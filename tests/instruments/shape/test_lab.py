import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from thermoscope import instruments
from thermoscope.engine.replay import replay
from thermoscope.errors import InvalidRequest, ReadingCancelled
from thermoscope.instruments.shape.lab import Lab, Progress
from thermoscope.instruments.shape.reading import Reading

PROMPT = "The capital of France is"


def test_the_model_is_loaded_when_it_is_asked_for():
    loads = []
    lm = SimpleNamespace(model="packed once")
    lab = Lab(lambda: loads.append("loaded") or lm)
    assert lab.loaded is None
    assert lab.settled
    assert lab.model is lab.model is lm
    assert loads == ["loaded"]
    assert lab.loaded is lm


def test_a_reading_is_of_one_packing_of_the_model(toy, monkeypatch):
    """Where the native step takes over in the middle, the reading is taken again."""
    lm = SimpleNamespace(name="m", precision="int4", model="PyTorch's kernels")
    coin, taken = instruments.instrument(toy), []

    def read(settings, lab):
        taken.append(lab.model.model)
        lm.model = "the native step"
        return Reading(findings=taken)

    monkeypatch.setattr(coin.module, "read", read)
    coin.read(coin.settings.parse({}), Lab(lambda: lm))
    assert taken == ["PyTorch's kernels", "the native step"]


def test_progress_is_told_and_cancelling_ends_it():
    seen = []
    lab = Lab(lambda: None, watch=seen.append)
    items = lab.track("counting", ["a", "b"])
    assert list(items) == ["a", "b"]
    assert seen == [Progress("counting", 0, 2), Progress("counting", 1, 2), Progress("counting", 2, 2)]
    lab.cancel()
    with pytest.raises(ReadingCancelled):
        list(lab.track("counting", ["a"]))


def test_logits_are_the_replay_s(lm, lab):
    tokens = lab.tokens(PROMPT * 60)  # several chunks
    assert len(tokens) > 256
    whole = lm.runner.call(lambda: replay(lm.model, tokens, logits=True))
    rows = np.stack(list(lab.logits(tokens)))
    assert np.array_equal(rows, whole.logits.numpy())
    assert np.array_equal(lab.last(tokens), rows[-1].astype(np.float64))
    assert lab.replay(tokens).logprobs.equal(whole.logprobs)


def test_names_are_the_best_tokens_texts(lab):
    names = lab.names(lab.last(lab.tokens(PROMPT)), 3)
    assert next(iter(names.values())) == " Paris"
    assert len(names) == 3


def test_a_prompt_may_be_what_a_user_says(lm, lab):
    assert lab.tokens("Hi", chat=True) == tuple(lm.tokenizer.chat([{"role": "user", "content": "Hi"}]))
    assert lab.tokens("Hi") == tuple(lm.tokenizer.prompt("Hi"))


def test_a_prompt_that_fills_the_context_is_refused(lm, lab):
    with pytest.raises(InvalidRequest, match=f"expected at most {lm.context}, the context") as caught:
        lab.tokens("word " * lm.context)
    assert caught.value.param == "prompt"


def test_a_replay_that_fills_the_context_names_where_the_tokens_are_from(lm, lab):
    with pytest.raises(InvalidRequest, match=r"^classes: got") as caught:
        lab.replay([1] * (lm.context + 1), param="classes")
    assert caught.value.param == "classes"


@pytest.mark.parametrize(
    ("native", "precision", "tie"),
    [(True, "int4", 1e-9), (True, "fp32", 1e-9), (False, "fp32", 1e-4), (False, "bf16", 0.05)],
)
def test_what_two_ways_may_differ_by_is_that_of_the_arithmetic(native, precision, tie):
    lab = Lab(lambda: SimpleNamespace(precision=precision, model=SimpleNamespace(native=native)))
    assert lab.tie == tie
    assert lab.tie_of_sets(1.0) <= tie
    assert lab.tie_of_sets(0.0) == 1e-9


def test_no_set_moves_by_more_than_its_tie():
    """The set that moves most has even odds, with all of it pushed up and all else down."""
    lab = Lab(lambda: SimpleNamespace(precision="bf16", model=SimpleNamespace(native=False)))
    for temperature in (0.3, 1.0, 4.0):
        up, down = math.exp(lab.tie / temperature), math.exp(-lab.tie / temperature)
        worst = up / (up + down) - 0.5
        assert worst <= lab.tie_of_sets(temperature) <= 2.01 * worst


def test_several_settings_are_under_way_at_once_and_change_nothing(lm, lab):
    prompt = lab.tokens(PROMPT)
    asked = [{"temperature": each, "seed": 3, "n": 2, "max_tokens": 6} for each in (0.5, 1.0, 2.0)]
    together = lab.generate(prompt, asked)
    for sampling, reply in zip(asked, together, strict=True):
        alone = lm.generate(prompt, **sampling)
        assert [trace.tokens for trace in reply.traces] == [trace.tokens for trace in alone.traces]
    check = lab.replayed([trace for reply in together for trace in reply.traces])
    assert check.passed


def test_only_the_logits_asked_for_are_computed(lm, lab, monkeypatch):
    tokens = lab.tokens(PROMPT * 60)
    whole = np.stack(list(lab.logits(tokens)))
    rows, logits = [], type(lm.model.decoder).logits
    monkeypatch.setattr(
        type(lm.model.decoder),
        "logits",
        lambda self, hidden: rows.append(len(hidden)) or logits(self, hidden),
    )
    assert np.array_equal(np.stack(list(lab.logits(tokens, first=130))), whole[130:])
    assert sum(rows) == len(tokens) - 130
    rows.clear()
    assert np.array_equal(lab.last(tokens), whole[-1].astype(np.float64))
    assert rows == [1]


def test_cancelling_frees_the_slots(lm):
    lab = Lab(lambda: lm, watch=lambda progress: progress.done and lab.cancel())
    with pytest.raises(ReadingCancelled) as kept:  # and with it every frame that it came through
        lab.generate(lab.tokens(PROMPT), [{"max_tokens": 500, "n": 4, "ignore_eos": True}])
    for _ in range(600):  # the engine notices at its next step, whenever a busy machine comes to that
        if not lm.runner.running:
            break
        threading.Event().wait(0.05)
    assert lm.runner.running == 0
    assert lm.runner.waiting == 0
    del kept


def test_a_reading_that_waits_for_a_slot_can_be_called_off(lm):
    """All slots are taken by others, who go first: no token of the reading's comes."""
    from contextlib import closing

    busy = [lm.stream(PROMPT, max_tokens=400, ignore_eos=True) for _ in range(lm.runner.slots)]
    lab = Lab(lambda: lm, background=True)
    with closing(busy[0]), closing(busy[1]):
        for stream in busy:
            next(stream)
        threading.Timer(0.2, lab.cancel).start()
        with pytest.raises(ReadingCancelled):
            lab.generate(lm.tokenizer.prompt(PROMPT), [{"max_tokens": 4}])
        for stream in busy:
            stream.close()


def test_a_look_that_is_cut_gives_all_its_pieces(lm):
    """An overwritten memory cuts the pass once more; what the memory held before changes nothing."""
    from thermoscope.models.intervention import Overwrite, Suppress

    told = []
    lab = Lab(lambda: lm, watch=told.append)
    tokens = [5 + i % 40 for i in range(150)]
    kept = lab.replay(tokens, keep={"k": [1], "v": [1], "residual": [2]})
    same = Overwrite(1, [3, 60], kept.kept["k", 1][[3, 60]], kept.kept["v", 1][[3, 60]])
    told.clear()
    again = lab.replay(tokens, interventions=[same])
    assert again.logprobs.shape == kept.logprobs.shape
    assert (again.logprobs - kept.logprobs).abs().max() <= 1e-4
    assert told[-1].done == told[-1].total == 150
    hidden = lab.replay(tokens, interventions=[Suppress(range(40))]).logprobs
    assert (hidden[:39] - kept.logprobs[:39]).abs().max() <= 1e-4
    assert (hidden[40:] - kept.logprobs[40:]).abs().max() > 0.01
