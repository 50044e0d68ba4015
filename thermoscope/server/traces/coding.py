"""A step as a row of a table, and back. Numbers stay what they are, to the bit.

The twenty alternatives are most of a step, and most steps are never opened: with them as JSON it is 2.2 KB,
with `best` and `texts` 0.9, in half the time.
"""

import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from thermoscope.engine.trace import Alternative, Step

if TYPE_CHECKING:
    from thermoscope.upstream.trace import Step as Seen

_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Row(NamedTuple):
    """`plain`: the step without its alternatives, as JSON. `best`: their token ids (int64), then their
    log-probabilities, then those of the sampler (float64), little-endian. `texts`: what they read, as JSON.
    """

    plain: str
    best: bytes | None
    texts: str | None


def pack(step: "Step | Seen") -> Row:
    """The row of a step; one of an upstream is JSON as a whole."""
    if not isinstance(step, Step):
        return Row(_json(step.to_dict()), None, None)
    plain = _json(step.to_dict(alternatives=False))
    if step.record is None or not step.record.alternatives:
        return Row(plain, None, None)
    tokens, texts, logprobs, sampled = zip(*step.record.alternatives, strict=True)
    best = struct.pack(f"<{len(tokens)}q{2 * len(tokens)}d", *tokens, *logprobs, *sampled)
    return Row(plain, best, _json(texts))


def unpack(row: Row) -> dict[str, Any]:
    """The step as `Step.to_dict` gives it."""
    plain: dict[str, Any] = json.loads(row.plain)
    if "logprob" not in plain or "alternatives" in plain:
        return plain
    if row.best is None or row.texts is None:
        return plain | {"alternatives": []}
    texts = json.loads(row.texts)
    count = len(texts)
    numbers = struct.unpack(f"<{count}q{2 * count}d", row.best)
    columns = numbers[:count], texts, numbers[count : 2 * count], numbers[2 * count :]
    return plain | {"alternatives": [Alternative(*each).to_dict() for each in zip(*columns, strict=True)]}
