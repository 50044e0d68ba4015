"""What serving a model costs in memory, and whether that fits; numbers only, no torch.

First form: counted from the shape of the model, before a byte of it is read. It is there to refuse what
cannot work, so each term errs on the large side.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.precision import PRECISIONS
from thermoscope.errors import InvalidRequest, OutOfMemory

GIB = 2**30
FLOAT32 = 4
BLOCK = 32  # weights that share one scale and one zero in `int4`
PREFILL_CHUNK = 512  # tokens of a prompt that go through the layers at once


@dataclass(frozen=True)
class ServingMemory:
    """Bytes that a model takes while it serves.

    - `weights`: parameters at their precision, scales and zeros with them.
    - `cache`: keys and values of every slot at full context.
    - `working`: the larger of what loading and what one forward pass hold for a moment.
    """

    weights: int
    cache: int
    working: int

    @property
    def total(self) -> int:
        """Bytes in all, at the peak."""
        return self.weights + self.cache + self.working


def bytes_per_weight(precision: str, columns: int) -> float:
    r"""Bytes that one weight of a matrix with rows of `columns` weights takes.

    - `fp32`: 4. `fp16`, `bf16`: 2.
    - `int8`: $1 + 4/\text{columns}$: a scale of at most 4 bytes a row.
    - `int4`: $\tfrac12 + 4/32$: a bfloat16 scale and a bfloat16 zero for 32 weights.

    **Errors:** `InvalidRequest` for a precision that is none of these.
    """
    match precision:
        case "fp32":
            return 4.0
        case "fp16" | "bf16":
            return 2.0
        case "int8":
            return 1.0 + FLOAT32 / columns
        case "int4":
            return 0.5 + 4.0 / BLOCK
    raise InvalidRequest(
        f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}.", param="precision"
    )


def weight_bytes(config: ModelConfig, precision: str) -> int:
    """Bytes of all parameters at a precision; the rows are taken to be as long as the model is wide.

    The embeddings and the output head keep 16 bits where the precision has fewer: they decide most of what
    rounding costs in quality.
    """
    rows = config.vocab * (1 if config.tied else 2) + config.context * config.learned_positions
    tables = rows * config.hidden
    each = bytes_per_weight(precision, config.hidden)
    return round(tables * max(2.0, each) + (config.parameters - tables) * each)


def cache_bytes(config: ModelConfig, *, slots: int, context: int, number: int = FLOAT32) -> int:
    r"""Bytes of the KV cache: $\text{slots} \cdot \text{context} \cdot 2 L H_{kv} d_{head} \cdot b$.

    `number`: b, bytes of one number of it.
    """
    for name, value in (("slots", slots), ("context", context)):
        if value < 1:
            raise InvalidRequest(f"{name}: got {value}, expected a whole number, 1 or more.", param=name)
    return slots * context * config.kv_values_per_token * number


def working_bytes(config: ModelConfig, *, slots: int, context: int) -> int:
    """Bytes held for a moment: the larger of two phases that never coincide.

    - Loading: the largest matrix (as a rule the embedding) in float32 beside its packed form.
    - Serving: one layer's activations for a chunk of a prompt (residual stream, Q, K, V, gate and up,
      attention scores of every head over the context), and the logits of every slot.
    """
    ffn = max(config.ffn, config.expert_ffn)  # at worst one expert has every row
    largest = max(config.vocab, ffn) * config.hidden
    chunk = min(PREFILL_CHUNK, context)
    row = 2 * config.hidden + config.head_dim * (config.heads + 2 * config.kv_heads) + 2 * ffn
    row += config.heads * context
    return FLOAT32 * max(largest, chunk * row + slots * config.vocab)


def serving_memory(
    config: ModelConfig,
    precision: str,
    *,
    slots: int,
    context: int,
    file_bytes: int | None = None,
    native: bool = False,
) -> ServingMemory:
    """What a model needs at a precision, with `slots` sequences of up to `context` tokens.

    `file_bytes`: the weights' size where they stay as the file has them, instead of the estimate. `native`:
    whether the native step runs it, which keeps keys and values in float16.
    """
    weights = weight_bytes(config, precision) if file_bytes is None else file_bytes
    if native and config.tied:  # beside the embedding stands the head, in 8-bit blocks
        weights += round(config.vocab * config.hidden * (1 + 4 / BLOCK))
    return ServingMemory(
        weights=weights,
        cache=cache_bytes(config, slots=slots, context=context, number=2 if native else FLOAT32),
        working=working_bytes(config, slots=slots, context=context),
    )


def check_fits(needed: int, free: int) -> None:
    """Refuse what needs more bytes than are free.

    **Errors:** `OutOfMemory`, with both numbers in GiB (2^30 bytes) and what to do.
    """
    if needed > free:
        raise OutOfMemory(
            f"memory: the model and its cache need {needed / GIB:.2f} GiB, but {free / GIB:.2f} GiB are "
            "free; take fewer slots, a shorter context or a smaller precision."
        )


def free_bytes() -> int:
    """Bytes that this process can still take: what the machine has, or its control group if that is less."""
    available: int = psutil.virtual_memory().available
    return min([available, *_control_group_bytes()])


def _control_group_bytes(
    table: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """What each limit above this process leaves: of its own group and every one that holds it.

    Inside a container the table can name a path of the host that is not mounted here; the container's own
    limit then stands at the mount's root, so the walk ends there in any case.
    """
    try:
        rows = [line.split(":", 2) for line in table.read_text().splitlines()]
    except OSError:  # not Linux, or /proc is hidden
        return []
    left = []
    for _, controllers, group in rows:
        if controllers == "":
            root, limit, used, cached = mount, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used, cached = (
                mount / "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        own = root / group.strip("/")
        for folder in [own, *own.parents]:
            if not folder.is_relative_to(root):
                break
            try:
                most, taken = (folder / limit).read_text().strip(), int((folder / used).read_text())
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):
                continue
            if most != "max":
                left.append(max(0, int(most) - taken + int(stat.get(cached, 0))))  # cached files give way
    return left
