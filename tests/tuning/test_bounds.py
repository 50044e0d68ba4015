from dataclasses import replace

import pytest

from tests.planning.memory.shapes import LATENT, MIXTURE, QWEN, SMALL
from thermoscope.catalogue import lookup
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory.adapter import Adapter
from thermoscope.planning.memory.inference import Inference
from thermoscope.planning.memory.parallel import Parallel
from thermoscope.planning.memory.training import Training
from thermoscope.tuning.bounds import traceable

FULL = Training(shape=SMALL, method="full", sequence=64)
LORA = replace(FULL, method="lora", adapter=Adapter(rank=4))


@pytest.mark.parametrize(
    "job",
    [
        FULL, LORA, replace(FULL, shape=QWEN), replace(FULL, checkpointing="none", attention="eager"),
        replace(LORA, precision="fp32", stack="transformers-pure", optimizer="sgd"),
        *(
            replace(FULL, shape=lookup.architecture(name))
            for name in ("smollm2-135m", "qwen2-0.5b", "gemma-2b")
        ),
    ],
)  # fmt: skip
def test_whole_models_and_lora_on_one_device_are_covered(job):
    assert traceable(job) is job


@pytest.mark.parametrize(
    ("job", "got"),
    [
        (replace(LORA, method="qlora"), "method qlora, expected full or lora"),
        (replace(FULL, method="prefix", tokens=8), "method prefix, "),
        (Inference(shape=SMALL, sequence=64), "method inference, "),
        (replace(FULL, precision="amp"), "precision amp, expected bf16 or fp32"),
        (replace(FULL, optimizer="lion"), "optimizer lion, "),
        (replace(FULL, loss="liger"), "loss liger, expected full"),
        (replace(FULL, stack="litgpt"), "stack litgpt, "),
        (replace(FULL, checkpointing="selective"), "checkpointing selective, "),
        (replace(FULL, offload="optimizer"), "offload optimizer, "),
        (replace(FULL, accumulation=2), "accumulation 2, expected 1"),
        (replace(LORA, weights="nf4"), "weights nf4, "),
        (replace(LORA, wide_stream=True), "wide_stream True, "),
        (replace(FULL, parallel=Parallel(data=2, sharding="fsdp2")), "devices 2, expected 1"),
        (replace(LORA, adapter=Adapter(rank=4, dora=True)), "dora True, "),
        (replace(LORA, adapter=Adapter(rank=4, targets=("head",))), "targets head, "),
        (replace(FULL, shape=MIXTURE), "mixture, expected a model whose layers are those of Llama, "),
        (replace(FULL, shape=LATENT), "latent, "),
        (replace(FULL, shape=lookup.architecture("gpt2")), "gpt2, "),
        *(
            (replace(FULL, shape=lookup.architecture(name)), f"{name}, ")
            for name in ("gemma-2-2b", "olmo-2-1b")
        ),
        (replace(FULL, shape=replace(QWEN, norm_float32=True)), "Qwen3-0.6B, "),
    ],
)
def test_what_is_not_covered_is_refused_in_one_line(job, got):
    with pytest.raises(InvalidRequest) as caught:
        traceable(job)
    assert str(caught.value).startswith(f"trace: got {got}")
    assert str(caught.value).endswith("leave --trace out.")
    assert "\n" not in str(caught.value)
    assert caught.value.param == "trace"
