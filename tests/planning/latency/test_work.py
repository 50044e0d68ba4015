"""Operations and bytes of a pass, against loops over every token, head and expert."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from tests.planning.latency.shapes import SMALL, run
from thermoscope.catalogue import lookup
from thermoscope.catalogue.architecture import Experts, Latent
from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.work import SOFTMAX, components


def total(works, what, *kinds):
    return sum(work.count * getattr(work, what) for work in works if work.kind in kinds)


def test_products_of_a_prompt_are_counted_matrix_by_matrix():
    works = components(SMALL, run(batch=2, new=5))
    matrices = [(8, 8), (4, 8), (4, 8), (8, 8), (16, 8), (16, 8), (8, 16)]  # q k v o gate up down
    flops = sum(2 * 10 * rows * columns for rows, columns in matrices) * 3 + 2 * 2 * 32 * 8
    assert total(works, "flops", "product") == flops
    weights = sum(rows * columns for rows, columns in matrices) * 3 + 32 * 8
    assert total(works, "weights", "product") == 2 * weights


@pytest.mark.parametrize("window", [None, 3])
def test_attention_is_counted_pair_by_pair(window):
    shape = replace(SMALL, window=window)
    batch, new, past = 2, 5, 4
    pairs = 0
    for at in range(past, past + new):
        pairs += sum(1 for other in range(at + 1) if window is None or other > at - window)
    (looks,) = (
        each for each in components(shape, run(batch=batch, new=new, past=past)) if each.kind == "attention"
    )
    assert looks.flops == batch * pairs * (4 * 4 * 2 + SOFTMAX * 4)


def test_steps_are_the_mean_of_their_passes():
    shape = replace(SMALL, window=6, windowed=(True, False))
    many = components(shape, run(past=3, steps=7))
    single = [components(shape, run(past=3 + step)) for step in range(7)]
    for what in ("flops", "traffic"):
        mean = sum(total(works, what, "attention") for works in single) / 7
        assert total(many, what, "attention") == pytest.approx(mean, rel=1e-12)


def test_a_window_reads_no_more_of_the_cache_than_it_sees():
    shape = replace(SMALL, window=4)
    (near,) = (each for each in components(shape, run(past=50)) if each.kind == "attention")
    values, number = 2 * 2 * 2, 2
    read, written, passed = 4 * values * number, values * number, 2 * 4 * 2 * 2
    assert near.traffic == read + written + passed


def test_qwen3_reads_112_kib_of_cache_for_each_token_of_context():
    shape = lookup.architecture("qwen3-0.6b")
    longer, shorter = (
        total(components(shape, run(past=past)), "traffic", "attention") for past in (1001, 1000)
    )
    assert longer - shorter == 112 * 1024


def test_experts_that_a_batch_reaches_are_counted_by_enumeration():
    shape = replace(SMALL, experts=Experts(count=4, active=2, ffn=6))
    choices = list(itertools.combinations(range(4), 2))
    reached = [len({*one, *other}) for one in choices for other in choices]  # two rows, each choice alike
    mean = sum(reached) / len(reached)
    works = {work.name: work for work in components(shape, run(batch=2))}
    assert works["experts' down"].weights == pytest.approx(mean * 8 * 6 * 2, rel=1e-12)
    one = {work.name: work for work in components(shape, run(batch=1))}["experts' down"]
    assert one.weights == 2 * 8 * 6 * 2
    assert one.flops == 2 * 2 * 8 * 6


def test_latent_attention_reads_the_small_cache():
    shape = replace(SMALL, latent=Latent(q_rank=None, kv_rank=6, rope_dim=2, nope_dim=3, v_dim=5), kv_heads=4)
    longer, shorter = (total(components(shape, run(past=past)), "traffic", "attention") for past in (20, 19))
    assert longer - shorter == 3 * (6 + 2) * 2


def test_sharing_divides_products_and_adds_sums():
    alone, shared = components(SMALL, run(new=4)), components(SMALL, run(new=4, tensor=2))
    assert total(shared, "flops", "product") * 2 == total(alone, "flops", "product")
    assert total(shared, "weights", "product") * 2 == total(alone, "weights", "product")
    stream = 4 * 8 * 2
    assert total(shared, "traffic", "link") == 3 * 2 * (2 * (2 - 1) / 2 * stream)
    assert Counter(each.kind for each in alone)["link"] == 0


def test_stages_hand_the_stream_on():
    assert total(components(SMALL, run(new=4, stages=3)), "traffic", "link") == 2 * 4 * 8 * 2


def test_quantised_weights_take_their_bits():
    works = components(SMALL, run(format=FORMATS["int4-g128"]))
    products = {work.name: work for work in works if work.kind == "product"}
    assert products["down"].weights == 8 * 16 * 4.25 / 8
    assert products["down"].unpacked == 8 * 16
    assert products["head"].weights == 32 * 8 * 2


def test_positions_are_where_the_model_has_them():
    names = {
        kind: [work.name for work in components(replace(SMALL, positions=kind), run())]
        for kind in ("rotary", "learned", "none")
    }
    assert "rotary" in names["rotary"]
    assert "position table" in names["learned"]
    assert "rotary" not in names["learned"]
    assert not {"rotary", "position table"} & set(names["none"])


@pytest.mark.parametrize(
    ("given", "param"),
    [({"tensor": 3}, "tensor"), ({"stages": 9}, "stages"), ({"batch": 0}, "batch"), ({"new": 0}, "new")],
)
def test_what_cannot_be_is_refused(given, param):
    with pytest.raises(InvalidRequest) as caught:
        components(SMALL, run(**given))
    assert caught.value.param == param
