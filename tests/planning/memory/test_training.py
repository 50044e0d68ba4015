from dataclasses import replace

import pytest

from tests.planning.memory.shapes import LATENT, LLAMA, MISTRAL, MIXTURE, SMALL
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory.adapter import Adapter
from thermoscope.planning.memory.parallel import Parallel
from thermoscope.planning.memory.training import WORKSPACE, Training, plan

GIB = 2**30
FULL = Training(shape=MISTRAL, method="full", batch=4, sequence=4096, loss="full-4.46")
LORA = Training(
    shape=MISTRAL, method="lora", adapter=Adapter(rank=16), batch=4, sequence=4096, loss="full-4.46",
    stack="transformers-pure",
)  # fmt: skip


def test_full_bf16_adamw_foreach_is_ten_bytes_a_parameter_at_the_step():
    found = plan(FULL)
    assert found.peak_phase == "step"
    assert (found.peak - WORKSPACE) / MISTRAL.parameters == pytest.approx(10.00, abs=0.001)
    assert (sum(found.steady.values()) - WORKSPACE) / MISTRAL.parameters == pytest.approx(6.00, abs=0.001)


@pytest.mark.parametrize(
    ("precision", "step"),
    [("bf16", 10), ("fp16", 10), ("fp32", 20), ("mixed", 2 + 2 + 4 + 8 + 4), ("amp", 20)],
)
def test_bytes_a_parameter_at_the_step(precision, step):
    found = plan(replace(FULL, precision=precision)).phases["step"]
    assert sum(found.values()) - WORKSPACE == pytest.approx(step * MISTRAL.parameters)


# torch.cuda.max_memory_allocated on A100-80GB, as fms-acceleration's benchmark tables print it (commit
# 876e2ed6).
MEASURED = [
    (FULL, 67.4602),
    (replace(FULL, batch=8), 67.4606),
    (LORA, 24.8706),
    (replace(LORA, batch=8), 36.0821),
    (replace(LORA, method="qlora", stack="transformers"), 15.2493),
    (replace(LORA, method="qlora", stack="transformers", wide_stream=True), 19.2498),
    (replace(LORA, method="gptq-lora", stack="transformers"), 15.2776),
    (replace(FULL, batch=2, parallel=Parallel(data=2, sharding="fsdp1")), 33.7380),
    (replace(LORA, batch=2, parallel=Parallel(data=2, sharding="fsdp1")), 14.1048),
]


@pytest.mark.parametrize(("job", "measured"), MEASURED)
def test_runs_that_were_measured(job, measured):
    assert plan(job).peak / GIB == pytest.approx(measured, rel=0.01)


def test_the_peak_moves_from_the_step_to_the_loss_as_tokens_grow():
    assert plan(replace(FULL, batch=1)).peak_phase == "step"
    assert plan(replace(FULL, batch=16)).peak_phase == "loss"
    assert plan(replace(FULL, batch=16, loss="liger")).peak_phase == "backward"


def test_a_tied_table_has_three_gradients_at_the_end_of_the_backward_pass():
    """From the head, from the embedding, and their sum, where an untied model has one of each table."""
    job = replace(FULL, sequence=16, optimizer="adamw-fused")
    tied = replace(job, shape=replace(MISTRAL, tied=True))
    table = 2 * MISTRAL.vocab * MISTRAL.hidden
    for each, more in ((job, 0), (tied, 2 * table)):
        found = plan(each)
        assert sum(found.phases["backward"].values()) - WORKSPACE == pytest.approx(
            (2 + 2 + 4) * each.shape.parameters + more, rel=0.001
        )
    assert plan(tied).peak_phase == "backward"


def test_a_checkpointed_layer_at_work_keeps_nothing():
    """Two streams, and gate, up and their product; with eager attention its scores are more."""
    layer = plan(FULL).phases["forward"]["layer"]
    assert layer == FULL.batch * FULL.sequence * 2 * (3 * MISTRAL.ffn + 2 * MISTRAL.hidden)
    assert plan(replace(FULL, attention="eager")).phases["forward"]["layer"] > layer


def test_gradients_wait_through_accumulation():
    once, often = (plan(replace(FULL, accumulation=each)).phases["loss"] for each in (1, 4))
    assert often["gradients"] == 2 * MISTRAL.parameters
    assert "gradients" not in once


@pytest.mark.parametrize(
    ("sharding", "weights", "gradients", "optimizer"),
    [("ddp", 1, 1, 1), ("zero1", 1, 1, 4), ("zero2", 1, 4, 4), ("zero3", 4, 4, 4), ("fsdp2", 4, 4, 4)],
)
def test_zero_spreads_states_then_gradients_then_weights(sharding, weights, gradients, optimizer):
    """Rajbhandari et al. 2020, figure 1, with 2 bytes for everything."""
    step = plan(replace(FULL, parallel=Parallel(data=4, sharding=sharding))).phases["step"]
    model = 2 * MISTRAL.parameters
    assert step["weights"] == pytest.approx(model / weights)
    assert step["gradients"] == pytest.approx(model / gradients)
    assert step["optimizer"] == pytest.approx(2 * model / optimizer)


def test_ddp_keeps_buckets_of_gradients():
    assert plan(replace(FULL, parallel=Parallel(data=2, sharding="ddp"))).steady["buckets"] == (
        2 * MISTRAL.parameters
    )


def test_tensor_and_pipeline_parallelism_split_the_weights():
    whole = plan(FULL).steady["weights"]
    assert plan(replace(FULL, parallel=Parallel(tensor=8))).steady["weights"] == pytest.approx(whole / 8)
    staged = plan(replace(FULL, parallel=Parallel(pipeline=4))).steady["weights"]
    tables = 2 * (2 * 32000 + 1) * 4096
    assert staged == pytest.approx((whole - tables) / 4 + tables / 2)


def test_a_pipeline_s_first_stage_has_as_many_batches_under_way_as_stages():
    alone = plan(FULL).phases["forward"]["checkpoints"]
    staged = replace(FULL, parallel=Parallel(pipeline=4), accumulation=8)
    assert plan(staged).phases["forward"]["checkpoints"] == alone  # a quarter of the layers, four times
    assert plan(replace(staged, accumulation=1)).phases["forward"]["checkpoints"] == alone / 4


def test_experts_spread_over_replicas():
    job = Training(shape=MIXTURE, method="full", sequence=64)
    spread = replace(job, parallel=Parallel(data=4, sharding="ddp", expert=4))
    experts = 2 * 8 * 3 * 64 * 96
    assert plan(job).steady["weights"] - plan(spread).steady["weights"] == experts * 3 / 4


def test_context_parallelism_splits_the_tokens():
    whole, split = (
        plan(replace(FULL, parallel=each)).phases["loss"]
        for each in (Parallel(), Parallel(context=4, sharding="fsdp2"))
    )
    assert split["checkpoints"] == whole["checkpoints"] / 4
    assert split["logits"] == whole["logits"] / 4


def test_offload_leaves_the_device():
    step = plan(replace(FULL, offload="optimizer")).phases["step"]
    assert "optimizer" not in step
    assert "temporary" not in step
    everything = plan(replace(FULL, offload="all"))
    assert "weights" not in everything.steady
    assert everything.phases["backward"]["gathered"] > 2 * MISTRAL.parameters / 32


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_a_wide_stream_adds_nothing_to_autocast(checkpointing):
    amp = replace(FULL, precision="amp", checkpointing=checkpointing)
    assert plan(replace(amp, wide_stream=True)) == plan(amp)


def test_sharded_weights_are_not_cast_and_their_stream_is_wide_where_it_is_said():
    sharded = replace(FULL, precision="amp", parallel=Parallel(data=2, sharding="fsdp2"))
    forward, wide = (plan(replace(sharded, wide_stream=each)).phases["forward"] for each in (False, True))
    assert "autocast" not in forward
    assert wide["checkpoints"] == 2 * forward["checkpoints"]


def test_checkpointing_keeps_less():
    sizes = [
        plan(replace(LORA, checkpointing=each, attention="eager")).peak
        for each in ("none", "selective", "full")
    ]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("shape", [SMALL, MIXTURE, LATENT, LLAMA])
@pytest.mark.parametrize("method", ["full", "lora", "qlora", "prefix", "prompt"])
def test_more_tokens_never_take_less(shape, method):
    adapter = Adapter(rank=2, targets=("q", "v")) if method.endswith("lora") else None
    tokens = 8 if method in ("prefix", "prompt") else 0
    job = Training(shape=shape, method=method, adapter=adapter, tokens=tokens, sequence=64)
    peaks = [plan(replace(job, batch=batch)).peak for batch in (1, 2, 4, 64)]
    assert peaks == sorted(peaks)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch": 0}, "batch: got 0, expected a whole number, 1 or more."),
        ({"sequence": 40000}, "seq: got 40000 tokens, expected at most 32768, the context of Mistral-7B."),
        ({"adapter": Adapter(rank=2)}, "method: full and an adapter: expected both or neither."),
    ],
)
def test_what_cannot_be_is_refused(changed, message):
    with pytest.raises(InvalidRequest) as caught:
        replace(FULL, **changed)
    assert str(caught.value) == message
