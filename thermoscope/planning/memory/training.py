r"""What one training step takes of a device, phase by phase; the peak is the greatest phase, never their sum.

$$\text{peak} = \max(\text{forward}, \text{loss}, \text{backward}, \text{step})$$

Weights and optimizer states stand in all four. The forward pass piles up what layers keep (all of it, or with
checkpointing the stream alone). The loss adds logits. The backward pass works one layer out again, and fills
up gradients from the last layer to the first. The optimizer's step comes when all activations are gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from thermoscope.catalogue.architecture import Architecture
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory import activations, optimizer, storage
from thermoscope.planning.memory import stack as stacks
from thermoscope.planning.memory.adapter import Adapter, prefix_parameters, prompt_parameters
from thermoscope.planning.memory.parallel import SHARDED_GRADIENTS, SHARDED_WEIGHTS, Parallel
from thermoscope.planning.memory.plan import Items, Plan, nonzero

Method = Literal["full", "lora", "qlora", "gptq-lora", "awq-lora", "prefix", "prompt"]
Precision = Literal["bf16", "fp16", "fp32", "mixed", "amp"]
Checkpointing = Literal["none", "selective", "full"]
Offload = Literal["none", "optimizer", "all"]
QUANTISED: Mapping[Method, str] = {"qlora": "nf4-dq", "gptq-lora": "gptq-4bit", "awq-lora": "awq-4bit"}
WORKSPACE = (
    2 * 8_519_680
)  # two workspaces of cuBLAS on Ampere, which the LoRA rows' steady state shows exactly
ZERO1 = ("zero1", "zero2", "zero3", "fsdp1", "fsdp2")


@dataclass(frozen=True)
class Numbers:
    """Bytes of one trained number: itself, its gradient, its optimizer's moments, a float32 master copy."""

    weight: int
    gradient: int
    moment: int
    master: int = 0


NUMBERS: Mapping[Precision, Numbers] = {
    "bf16": Numbers(2, 2, 2),
    "fp16": Numbers(2, 2, 2),
    "fp32": Numbers(4, 4, 4),
    "mixed": Numbers(2, 2, 4, master=4),  # Micikevicius et al. 2018: 16 bytes with Adam
    "amp": Numbers(4, 4, 4),  # torch.autocast over float32 weights
}
CAST = (
    2  # bytes a weight that autocast keeps of what it cast, from the forward pass to the end of the backward
)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One way of fine-tuning a model; `plan` says what it takes.

    - `batch`: sequences of `sequence` tokens that one replica runs at once, `accumulation` times before a
      step.
    - `weights`: the form of frozen weights, for the quantised methods; `adapter`: for the LoRA methods;
      `tokens`: of a trained prefix or prompt.
    - `wide_stream`: the residual stream in float32 (peft's prepare_model_for_kbit_training).
    - `untied`: a tied head is kept as a copy (LitGPT).
    - `offload`: optimizer states on the host, or states, gradients and weights (a layer at a time comes
      over).
    """

    shape: Architecture
    method: Method
    batch: int = 1
    sequence: int = 1024
    accumulation: int = 1
    precision: Precision = "bf16"
    weights: str | None = None
    adapter: Adapter | None = None
    tokens: int = 0
    optimizer: str = "adamw"
    checkpointing: Checkpointing = "full"
    attention: activations.Attention = "flash"
    loss: str = "full"
    stack: str = "transformers"
    wide_stream: bool = False
    untied: bool = False
    offload: Offload = "none"
    parallel: Parallel = field(default_factory=Parallel)

    def __post_init__(self) -> None:
        for name in ("batch", "sequence", "accumulation"):
            if getattr(self, name) < 1:
                raise InvalidRequest(
                    f"{name}: got {getattr(self, name)}, expected a whole number, 1 or more.", param=name
                )
        if self.sequence > self.shape.context:
            raise InvalidRequest(
                f"seq: got {self.sequence} tokens, expected at most {self.shape.context}, the context of "
                f"{self.shape.name}.",
                param="seq",
            )
        if (self.adapter is None) == self.method.endswith("lora"):
            raise InvalidRequest(f"method: {self.method} and an adapter: expected both or neither.")
        if self.whole and self.form in storage.QUANTISED:
            raise InvalidRequest(
                f"weights: got {self.form!r} with method full, which trains them; expected "
                f"{', '.join(storage.WIDTHS)}, or a method that leaves them frozen, such as qlora.",
                param="weights",
            )
        self.parallel.check(self.shape, self.sequence)

    @property
    def whole(self) -> bool:
        """Whether all parameters are trained."""
        return self.method == "full"

    @property
    def trained(self) -> int:
        """How many numbers are trained."""
        if self.adapter is not None:
            return self.adapter.parameters(self.shape)
        match self.method:
            case "prefix":
                return prefix_parameters(self.shape, self.tokens)
            case "prompt":
                return prompt_parameters(self.shape, self.tokens)
        return self.shape.parameters

    @property
    def numbers(self) -> Numbers:
        """Bytes of a trained number; adapters keep one width for all."""
        if self.whole:
            return NUMBERS[self.precision]
        width = 4 if self.adapter is None else self.adapter.width
        return Numbers(width, width, width)

    @property
    def form(self) -> str:
        """How the model's own weights are kept."""
        if self.weights or self.method in QUANTISED:
            return self.weights or QUANTISED[self.method]
        if self.precision in ("fp32", "amp"):
            return "fp32"
        return "fp16" if self.precision == "fp16" else "bf16"

    @property
    def width(self) -> int:
        """Bytes of an activation."""
        return 4 if self.precision == "fp32" else 2

    @property
    def stream(self) -> int:
        """Bytes of a number of the residual stream: autocast leaves what float32 weights look up so wide."""
        return 4 if self.wide_stream or self.autocast else self.width

    @property
    def autocast(self) -> bool:
        """Whether float32 weights stand whole on a device, and each product casts what it reads."""
        return self.precision == "amp" and self.parallel.share(SHARDED_WEIGHTS) == 1


def plan(job: Training) -> Plan:
    """What a step takes, phase by phase.

    **Errors:** `InvalidRequest` for a name that is unknown, or a rank larger than a matrix.
    """
    states = _States.of(job)
    held = _Held.of(job)
    fixed = {"weights": states.weights, "adapter": states.adapter, "optimizer": states.optimizer}
    fixed |= {"buckets": states.buckets, "workspace": float(WORKSPACE)}
    kept = {held.name: held.all_layers, "autocast": states.casts}
    late = states.gradients if job.accumulation > 1 else 0.0
    gradients = {"gradients": late}
    started = {"gradients": max(late, states.head_gradient)}
    layer_gathered = states.gathered_layer * (2 if job.whole else 1)  # its gradient, before it is scattered
    gathered = {"gathered": states.gathered_tables + layer_gathered}
    first = fixed | kept | started | gathered | {"layer": held.backward, "retained": held.retained}
    done = fixed | {"gradients": states.gradients, "autocast": states.casts} | gathered
    last = done | {"gradients": states.before_embedding, "layer": held.backward}
    looked_up = done | {"tied": states.tied_gradients}
    phases: dict[str, Items] = {
        "forward": fixed | kept | gradients | {
            "gathered": states.gathered_tables + states.gathered_layer,
            "layer": held.one_layer,
        },
        "loss": fixed | kept | gradients | {
            "gathered": states.gathered_tables,
            "logits": held.logits,
            "stream": held.stream,
        },
        "backward": max(first, last, looked_up, key=lambda items: sum(items.values())),
        "step": fixed | {"gradients": states.gradients, "temporary": states.temporary},
    }  # fmt: skip
    steady = fixed | {"gradients": late}
    return Plan({name: nonzero(items) for name, items in phases.items()}, nonzero(steady), job.trained)


@dataclass(frozen=True, kw_only=True)
class _States:
    """What does not depend on the tokens, on one device."""

    weights: float
    adapter: float
    gradients: float
    head_gradient: float
    before_embedding: float
    tied_gradients: float
    optimizer: float
    temporary: float
    casts: float
    buckets: float
    gathered_tables: float
    gathered_layer: float

    @classmethod
    def of(cls, job: Training) -> "_States":
        shape, to = job.shape, job.parallel
        kept = storage.weights(shape, job.form, job.width, untied=job.untied)
        tables = kept.tables / to.tensor
        if to.pipeline > 1 and not shape.tied:
            tables /= 2  # the embedding is the first stage's, the head the last one's
        common = kept.layers / (to.tensor * to.pipeline)
        experts = kept.experts / (to.tensor * to.pipeline * to.expert)
        own = tables + common + experts  # what this device works with
        share = to.share(SHARDED_WEIGHTS)
        spread = tables / share + common / share + experts / max(1, share // to.expert)
        numbers = job.numbers
        trained = job.trained * own / kept.total if job.whole else job.trained / to.pipeline
        chosen = optimizer.step(
            job.optimizer, shape, round(trained), max(numbers.moment, numbers.master), whole=job.whole
        )
        gradients = numbers.gradient * trained
        scattered = gradients / to.share(SHARDED_GRADIENTS)
        adapters = 0.0 if job.whole else numbers.weight * trained / share
        compute = (
            job.width / numbers.weight if job.whole else 1.0
        )  # gathered at the width it is computed with
        gathered = share > 1 or job.offload == "all"
        head = (
            (shape.head.parameters if not shape.tied else shape.embedding.parameters) * job.width / to.tensor
        )
        held = job.offload != "all"
        alone = job.whole and held and to.share(SHARDED_GRADIENTS) == 1
        table = shape.embedding.parameters * numbers.gradient / to.tensor * alone
        comes_last = not shape.tied and job.accumulation == 1
        states = (chosen.states + numbers.master * trained) / to.share(ZERO1)
        return cls(
            weights=spread * held,
            adapter=adapters,
            gradients=scattered * held,
            head_gradient=head * job.whole,
            before_embedding=scattered * held - table * comes_last,
            # A tied table's gradients from its two uses, and their sum; one of the three is counted already.
            tied_gradients=2 * table * shape.tied,
            optimizer=states * (job.offload == "none"),
            temporary=chosen.temporary / to.share(ZERO1) * (job.offload == "none"),
            casts=CAST * own / numbers.weight if job.autocast and job.whole else 0.0,
            buckets=gradients if to.sharding == "ddp" and to.data > 1 else 0.0,
            gathered_tables=tables * compute * gathered,
            gathered_layer=kept.layer / (to.tensor * to.expert) * compute * gathered,
        )


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What depends on the tokens, on one device. `name`: what piles up over the layers."""

    name: str
    all_layers: float
    one_layer: float
    backward: float
    retained: float
    logits: float
    stream: float

    @classmethod
    def of(cls, job: Training) -> "_Held":
        shape, to = job.shape, job.parallel
        tokens = job.batch * (job.sequence + job.tokens * (job.method == "prompt")) / to.context
        context = job.sequence + job.tokens
        trained = activations.Trained(
            weights=job.whole, adapter=job.adapter, quantised=job.form in storage.QUANTISED
        )
        stack = stacks.stack(job.stack)

        def at(index: int) -> activations.Layer:
            return activations.layer(
                shape, index, trained, stack, job.attention, context=context, width=job.width,
                stream=job.stream if job.autocast else None, split=to.tensor,
            )  # fmt: skip

        sparse = shape.experts
        kinds = {index: bool(sparse and sparse.at(index)) for index in range(shape.layers)}
        by_kind = {
            kind: at(index) for index, kind in kinds.items() if kind not in list(kinds.values())[:index]
        }
        layers = [by_kind[kind] for kind in kinds.values()]
        highest = max(layers, key=lambda each: each.backward)
        stream = job.stream * shape.hidden
        # 1F1B: the first stage has as many micro-batches under way as there are stages.
        under_way = min(to.pipeline, job.accumulation) / to.pipeline
        match job.checkpointing:
            case "full":
                name, piled = "checkpoints", float(stream * shape.layers)
                # A layer worked out again has its input already: it is the checkpoint.
                copied = stack.norm_copy and (shape.norm == "rms" or shape.norm_float32)
                own_input = 0 if copied else stream
                backward = highest.backward - own_input
            case "selective":  # Korthikanti et al. 2022, section 4: attention's scores are worked out again
                name, piled = "activations", sum(each.kept - each.scores for each in layers)
                backward = highest.backward - highest.kept + highest.scores
            case _:
                name, piled = "activations", sum(each.kept for each in layers)
                backward = highest.backward - highest.kept
        frozen_fsdp = to.sharding == "fsdp1" and not job.whole and job.checkpointing == "full"
        vocab = shape.vocab / to.tensor
        logits, last = stacks.loss_bytes(stacks.loss(job.loss), tokens, shape.hidden, vocab)
        return cls(
            name=name,
            all_layers=tokens * piled * under_way,
            one_layer=tokens * highest.forward if job.checkpointing == "full" else 0.0,
            backward=tokens * backward,
            # FSDP1 hooks a frozen unit's input, whose gradient then stays to the end of the backward pass.
            retained=tokens * stream * max(0, shape.layers - 2) if frozen_fsdp else 0.0,
            logits=logits,
            stream=last,
        )
