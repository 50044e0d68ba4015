"""The parts that a decoder is made of, and where the tensors of a checkpoint hold them."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import BadModelFile, UnsupportedModel
from thermoscope.models.names import Names


class Place(NamedTuple):
    """Where a part lies: the tensor that holds it, and which of its rows."""

    tensor: str
    start: int
    stop: int


def shape_of(part: str, config: ModelConfig) -> tuple[int, ...]:
    """The shape that a part must have in a decoder of this shape."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, ffn = config.hidden, config.expert_ffn if ".experts." in part else config.ffn
    whole = config.qk_norm_whole
    norms = ("attention_norm", "attention_post_norm", "mlp_norm", "mlp_post_norm", "final_norm")
    shapes = {
        "embedding": (config.vocab, hidden),
        "positions": (config.context, hidden),
        "head": (config.vocab, hidden),
        "rope_factors": ((config.rotary_dim or config.head_dim) // 2,),
        **dict.fromkeys((*norms, *(f"{norm}_bias" for norm in norms), "o_bias", "down_bias"), (hidden,)),
        "q_norm": (queries if whole else config.head_dim,),
        "k_norm": (keys if whole else config.head_dim,),
        **dict.fromkeys(("k", "v"), (keys, hidden)),
        **dict.fromkeys(("k_bias", "v_bias"), (keys,)),
        **dict.fromkeys(("gate", "up"), (ffn, hidden)),
        **dict.fromkeys(("gate_bias", "up_bias"), (ffn,)),
        "q": (queries, hidden),
        "q_bias": (queries,),
        "o": (hidden, queries),
        "down": (hidden, ffn),
        "router": (config.experts, hidden),
    }
    return shapes[part.rpartition(".")[2]]


def parts_of(config: ModelConfig) -> Iterator[str]:
    """Every part that a decoder of this shape cannot do without."""
    biased = ("", "_bias") if config.norm == "layer" else ("",)
    yield from ("embedding", *(f"final_norm{bias}" for bias in biased), *(() if config.tied else ("head",)))
    yield from ["positions"] * config.learned_positions
    norms = ["attention_norm", "mlp_norm"] * config.pre_norm
    norms += ["attention_post_norm", "mlp_post_norm"] * config.post_norm
    layer = ["q", "k", "v", "o", *(norm + bias for norm in norms for bias in biased)]
    layer += ["q_norm", "k_norm"] * config.qk_norm + ["q_bias", "k_bias", "v_bias"] * config.qkv_bias
    layer += ["o_bias"] * config.output_bias
    matrices = ["gate"] * config.gated + ["up", "down"]
    dense = matrices + [f"{matrix}_bias" for matrix in matrices] * config.mlp_bias
    sparse = [f"experts.{e}.{matrix}" for e in range(config.experts) for matrix in matrices]
    for i in range(config.layers):
        mlp = ["router", *sparse] if config.sparse and config.sparse[i] else dense
        yield from (f"layers.{i}.{part}" for part in (*layer, *mlp))


def places_of(
    shapes: Mapping[str, tuple[int, ...]], names: Names, config: ModelConfig, where: str
) -> dict[str, Place]:
    """Find every part in tensors of these shapes, and check that all are there, once, and fit.

    A tensor of three dimensions is [experts, rows, columns], and counts as one matrix.

    **Errors:** `UnsupportedModel` for a tensor that the decoder has no place for: ignoring one would change
    what the model says. `BadModelFile` for a part that is missing, double or of another shape.
    """
    wanted = {*parts_of(config), "rope_factors"}
    held = {tensor: names.parts(tensor, config.experts) for tensor in shapes}
    if extra := sorted(tensor for tensor, parts in held.items() if not parts or not wanted.issuperset(parts)):
        raise UnsupportedModel(
            f"{where}: got {_few(extra)}, which a {config.family} here has no place for; "
            "expected a plain decoder without adapters or extra norms."
        )
    places: dict[str, Place] = {}
    for tensor, parts in held.items():
        *rows, columns = shapes[tensor]
        found = (math.prod(rows), columns) if rows else (columns,)
        each = [shape_of(part, config) for part in parts]
        if found != (expected := (sum(shape[0] for shape in each), *each[0][1:])):
            raise BadModelFile(
                f"{where}: {tensor} ({_few(list(parts))}): got shape {list(found)}, expected "
                f"{list(expected)}; the weights contradict the configuration, fetch the model again."
            )
        start = 0
        for part, shape in zip(parts, each, strict=True):
            if part in places:
                raise BadModelFile(
                    f"{where}: got {part} in {places[part].tensor} and {tensor}, expected one."
                )
            places[part] = Place(tensor, start, start + shape[0])
            start += shape[0]
    if missing := [part for part in parts_of(config) if part not in places]:
        raise BadModelFile(
            f"{where}: got no tensor for {_few(missing)}, expected one in a {config.family} of "
            f"{config.layers} layers; the file is incomplete, fetch it again."
        )
    return places


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
