r"""Bytes of every item in every phase of a training step, or of serving; the phase that peaks, and what would
fit.

No model is loaded and no device is needed: everything is counted from the model's shape. Each coefficient
that belongs to a code path rather than to the mathematics is a named setting, and stands among the
assumptions.
"""

from typing import TYPE_CHECKING, Literal

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import settings as shape
from thermoscope.instruments.shape.model import Shape
from thermoscope.instruments.shape.reading import Reading, joined
from thermoscope.instruments.shape.settings import Many, Text, setting

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.planning.memory.search import Job

QUESTION = "Fine-tune an LLM: how much memory do I need?"
LAW = (
    r"\text{peak} = \max_{\text{phase}}\left(W + G + O + \sum_{\ell} A_\ell + c\,T V\right),"
    r"\quad \text{phase} \in \{\text{forward}, \text{loss}, \text{backward}, \text{step}\}"
)
LOADS_MODEL = False

Method = Literal["full", "lora", "qlora", "gptq-lora", "awq-lora", "prefix", "prompt", "inference"]

LORA = ("lora", "qlora", "gptq-lora", "awq-lora")
SOFT = ("prefix", "prompt")
OF_ADAPTERS = ("rank", "alpha", "targets", "rslora", "dora", "dropout")
OF_TRAINING = ("kbit", "optimizer", "checkpointing", "loss", "stack", "packing", "accumulation", "offload")
# Settings that only some methods have: given for another, they would change nothing in silence.
ONLY = {
    **dict.fromkeys(OF_ADAPTERS, LORA),
    **dict.fromkeys(OF_TRAINING, ("full", *LORA, *SOFT)),
    "tokens": SOFT,
    "kv": ("inference",),
}


class Settings(shape.Settings):
    """A model, a way of training or running it, and the device it should fit."""

    model: Shape = setting(
        meaning="A model's name; on the command line also a folder, a config.json, a .gguf file or a hub id.",
        unit="model", argument=True,
    )  # fmt: skip
    method: Method = setting("lora", meaning="What is trained; inference trains nothing.", unit="method")
    batch: int = setting(1, meaning="Sequences at once on one replica.", unit="sequences", ge=1, le=65536)
    seq: int = setting(
        2048, meaning="Tokens of a sequence, prompt and answer together.", unit="tokens", ge=1, le=2**24
    )
    gpu: Text = setting(
        "A100-80GB", meaning="The device that it should fit.", unit="name", min_length=1, max_length=80
    )
    precision: Literal["bf16", "fp16", "fp32", "mixed", "amp"] = setting(
        "bf16", meaning="Of weights and activations; mixed has a float32 master copy of 16-bit weights, "
        "amp casts float32 weights.", unit="type",
    )  # fmt: skip
    optimizer: Text = setting(
        "adamw", meaning="adamw (foreach), adamw-fused, adamw-8bit, paged-adamw, paged-adamw-8bit, "
        "adafactor, lion, sgd, sgd-momentum or muon.", unit="name", min_length=1, max_length=40,
    )  # fmt: skip
    rank: int = setting(16, meaning="Rank r of LoRA.", unit="rank", ge=1, le=65536)
    alpha: float = setting(
        32, meaning="LoRA's α, which scales its result and takes no memory.", unit="scale", gt=0, le=1e6
    )
    targets: Many[Text] = setting(
        ("q", "k", "v", "o"), meaning="Matrices with an adapter: q, k, v, o, gate, up, down, head; attention,"
        " mlp or all-linear.", unit="names", min_length=1, max_length=16,
    )  # fmt: skip
    rslora: bool = setting(False, meaning="Scale by α/√r, which takes no memory.", unit="switch")
    dora: bool = setting(False, meaning="A trained magnitude for each row as well.", unit="switch")
    dropout: bool = setting(True, meaning="Dropout before the adapters, whose result is kept.", unit="switch")
    tokens: int = setting(20, meaning="Length of a trained prefix or prompt.", unit="tokens", ge=1, le=65536)
    weights: Text | None = setting(
        None, meaning="Form of frozen or served weights: bf16, nf4, nf4-dq, int8, gptq-4bit, awq-4bit ….",
        unit="name", min_length=1, max_length=40,
    )  # fmt: skip
    kbit: bool | None = setting(
        None, meaning="Residual stream in float32, as peft prepares 4-bit models; yes for qlora unless said.",
        unit="switch",
    )  # fmt: skip
    checkpointing: Literal["none", "selective", "full"] = setting(
        "full", meaning="Which activations are worked out again.", unit="way"
    )
    attention: Literal["flash", "sdpa", "eager"] = setting(
        "flash", meaning="Eager attention keeps its scores.", unit="way"
    )
    loss: Text = setting(
        "full", meaning="full, fused, chunked or liger; full-4.45, full-4.46 and fused-4.46 are older "
        "transformers', full-half is for code that never widens logits.", unit="name", min_length=1,
        max_length=40,
    )  # fmt: skip
    stack: Text = setting(
        "transformers", meaning="Training code: transformers, transformers-pure, fused, fused-pure, liger, "
        "litgpt or litgpt-2023.", unit="name", min_length=1, max_length=40,
    )  # fmt: skip
    packing: bool = setting(False, meaning="Rows filled up with several texts.", unit="switch")
    accumulation: int = setting(1, meaning="Batches before a step.", unit="batches", ge=1, le=2**20)
    offload: Literal["none", "optimizer", "all"] = setting(
        "none", meaning="What stands on the host.", unit="what"
    )
    data: int = setting(1, meaning="Replicas.", unit="devices", ge=1, le=65536)
    sharding: Literal["none", "ddp", "zero1", "zero2", "zero3", "fsdp1", "fsdp2"] | None = setting(
        None, meaning="What replicas share; fsdp2 with several, unless said.", unit="way"
    )
    tensor: int = setting(1, meaning="Devices that share each matrix.", unit="devices", ge=1, le=65536)
    pipeline: int = setting(1, meaning="Stages of layers.", unit="devices", ge=1, le=65536)
    context: int = setting(1, meaning="Devices that share each sequence.", unit="devices", ge=1, le=65536)
    expert: int = setting(1, meaning="Replicas that share the experts.", unit="devices", ge=1, le=65536)
    kv: Text = setting(
        "bf16", meaning="Form of a served KV cache: bf16, fp8, int8 or int4.", unit="name", min_length=1,
        max_length=40,
    )  # fmt: skip
    trace: bool = setting(
        False, meaning="Beside the plan, a real step of transformers and peft, traced without weights.",
        unit="switch",
    )  # fmt: skip


def read(settings: Settings, lab: "Lab") -> Reading:
    """Plan the job, ask backwards what would fit, and check the plan against closed forms, and a trace."""
    from thermoscope.catalogue.hardware import hardware
    from thermoscope.instruments import _fitting, _footprint

    device = hardware(settings.gpu)
    asked = job(settings)
    parts = []
    for part in lab.track("counting", (_footprint.footprint, _fitting.fitting, _footprint.checks)):
        parts.append(part(asked, device))
    if settings.trace:
        from thermoscope.instruments._tracing import tracing
        from thermoscope.planning.memory.search import plan
        from thermoscope.tuning.process import traced

        parts.append(tracing(plan(asked), traced(asked, lambda: lab.progress("tracing a step", 0, 0))))
    return joined(*parts, Reading(notes=_footprint.assumptions(asked, device, settings)))


def job(settings: Settings) -> "Job":
    """The planner's question.

    **Errors:** `InvalidRequest`.
    """
    from thermoscope.planning.memory.adapter import Adapter, targets
    from thermoscope.planning.memory.inference import Inference
    from thermoscope.planning.memory.parallel import Parallel
    from thermoscope.planning.memory.training import Training

    for name in ONLY.keys() & settings.model_fields_set:
        value, neutral = getattr(settings, name), Settings.model_fields[name].default
        if value != neutral and settings.method not in ONLY[name]:
            raise InvalidRequest(
                f"{name}: got {value} with the method {settings.method}, which has no such setting, expected "
                f"it with {', '.join(ONLY[name])}; leave it out.",
                param=name,
            )
    to = Parallel(
        data=settings.data, tensor=settings.tensor, pipeline=settings.pipeline, context=settings.context,
        expert=settings.expert,
        sharding=settings.sharding or ("fsdp2" if settings.data * settings.context > 1 else "none"),
    )  # fmt: skip
    if settings.method == "inference":
        return Inference(
            shape=settings.model, weights=settings.weights or _plain(settings.precision), kv=settings.kv,
            batch=settings.batch, sequence=settings.seq, attention=settings.attention, parallel=to,
        )  # fmt: skip
    adapter = None
    if settings.method.endswith("lora"):
        adapter = Adapter(
            rank=settings.rank, targets=targets(",".join(settings.targets)), dora=settings.dora,
            dropout=settings.dropout,
        )  # fmt: skip
    wide = settings.method == "qlora" if settings.kbit is None else settings.kbit
    return Training(
        shape=settings.model, method=settings.method, batch=settings.batch, sequence=settings.seq,
        accumulation=settings.accumulation, precision=settings.precision, weights=settings.weights,
        adapter=adapter, tokens=settings.tokens if settings.method in ("prefix", "prompt") else 0,
        optimizer=settings.optimizer, checkpointing=settings.checkpointing, attention=settings.attention,
        loss=settings.loss, stack=settings.stack, wide_stream=wide, offload=settings.offload, parallel=to,
    )  # fmt: skip


def _plain(precision: str) -> str:
    return {"mixed": "bf16", "amp": "fp32"}.get(precision, precision)
