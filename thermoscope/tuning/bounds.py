"""Which training steps can be traced."""

from collections.abc import Collection
from dataclasses import replace

from thermoscope.catalogue.architecture import Architecture
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory.search import Job
from thermoscope.planning.memory.training import Training

TARGETS = {
    "q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj",
    "gate": "gate_proj", "up": "up_proj", "down": "down_proj",
}  # fmt: skip
ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}  # as transformers has them
OPTIMIZERS = ("adamw", "adamw-fused", "sgd", "sgd-momentum")
COVERED = {
    "method": ("full", "lora"),
    "precision": ("bf16", "fp32"),
    "optimizer": OPTIMIZERS,
    "loss": ("full",),
    "stack": ("transformers", "transformers-pure"),
    "checkpointing": ("none", "full"),
    "offload": ("none",),
    "accumulation": (1,),
    "weights": (None,),
    "wide_stream": (False,),
}


def traceable(job: Job) -> Training:
    """The job, if its step can be traced: whole models or LoRA, by transformers and peft, on one device.

    **Errors:** `InvalidRequest`, which names the first setting that stands against it.
    """
    if not isinstance(job, Training):
        raise InvalidRequest(_refusal("method", "inference", COVERED["method"]), param="trace")
    for name, values in COVERED.items():
        if (got := getattr(job, name)) not in values:
            raise InvalidRequest(_refusal(name, got, values), param="trace")
    if job.parallel.devices > 1:
        raise InvalidRequest(_refusal("devices", job.parallel.devices, (1,)), param="trace")
    if job.adapter is not None:
        if job.adapter.dora:
            raise InvalidRequest(_refusal("dora", True, (False,)), param="trace")
        for target in job.adapter.targets:
            if target not in TARGETS:
                raise InvalidRequest(_refusal("targets", target, tuple(TARGETS)), param="trace")
    _check_shape(job.shape)
    return job


def _refusal(name: str, got: object, expected: Collection[object]) -> str:
    return (
        f"trace: got {name} {got}, expected {' or '.join(map(str, expected))}, which a trace covers; "
        "leave --trace out."
    )


def _check_shape(shape: Architecture) -> None:
    """Layers as Llama, Gemma, Qwen2 and Qwen3 have them; all else of a shape is counted once it is built."""
    like = replace(
        shape, norm="rms", norms=2, gated=True, positions="rotary", experts=None, latent=None,
        parallel_block=False, sinks=False, embedding_norm=False, norm_weight=True, norm_bias=False,
        head_bias=False, qk_norm="head" if shape.qk_norm else None,
        norm_float32=shape.norm_float32 and not shape.qk_norm,
    )  # fmt: skip
    if like != shape or shape.activation not in ACTIVATIONS:
        raise InvalidRequest(
            f"trace: got {shape.name}, expected a model whose layers are those of Llama, Gemma, Qwen2 or "
            "Qwen3; leave --trace out.",
            param="trace",
        )
