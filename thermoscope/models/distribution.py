"""What rows of logits are like as distributions, and draws from them: by the own kernel where it is.

`laws` says what each number is; this is the same, for all rows of a step at once and in the time of a step.
Without the kernel it is `laws` itself that computes.
"""

import ctypes
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from thermoscope.laws import boltzmann, noise, truncation
from thermoscope.models.kernels import build

MOST = 32  # best tokens at most, as in kernels/distribution.cpp
FEW = 1024  # tokens whose noise numpy makes sooner than the kernel looks at all


class Summary(NamedTuple):
    """One row's distribution, float64.

    - `log_z`, `entropy`: log Σ exp(z) and the entropy in nats, at T = 1.
    - `greatest`: max z. `mass`: Σ exp((z − greatest) / T), at the row's own temperature.
    - `best`: ids of the greatest logits, greatest first, ties by lower id.
    """

    log_z: float
    entropy: float
    greatest: float
    mass: float
    best: Int[np.ndarray, "best"]


def summarise(
    logits: Float[Tensor, "rows vocab"], temperatures: Sequence[float], *, best: int
) -> list[Summary]:
    """Of every row, which must be finite: a row that is not has no finite entropy.

    T = 0 counts as 1 for `mass`. At most 32 of the best.
    """
    best = min(best, logits.shape[1], MOST)
    logits = logits.float().contiguous()
    if build.available():
        return _native(logits, temperatures, best)
    states = zip(*(each.tolist() for each in boltzmann.state(logits)), strict=True)
    summaries = []
    for row, temperature, (log_z, entropy) in zip(logits.numpy(), temperatures, states, strict=True):
        wide = row.astype(np.float64)
        if not np.isfinite(wide).all():
            log_z = entropy = math.nan  # and the rest of it is not looked at
            wide = np.zeros_like(wide)
        mass = float(boltzmann.weights(wide, temperature or 1.0).sum())
        summaries.append(Summary(log_z, entropy, float(row.max()), mass, truncation.top_k(wide, best).ids))
    return summaries


def log_z(logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows"]:
    """log Σ exp(z) of every row in float64; with the kernel, the number that `summarise` gives."""
    if build.available():
        summaries = _native(logits.float().contiguous(), [1.0] * len(logits), 1)
        return torch.tensor([summary.log_z for summary in summaries], dtype=torch.float64)
    return logits.double().logsumexp(dim=-1)


def draw(
    logits: Float[np.ndarray, "some"],
    greatest: float,
    temperature: float,
    key: int,
    ids: Int[np.ndarray, "some"] | None = None,
) -> int:
    """argmax z / T + g for T > 0, with the noise that `noise.key` names; ties go to the lower id.

    `ids`: the tokens that the logits are of, rising; None for all. `greatest`: of the logits.
    """
    if len(logits) > FEW and build.available():
        library = build.loaded()
        rest = (len(logits), greatest, temperature, key, library.threads_for(len(logits)))
        token: int
        if ids is None and logits.dtype == np.float32:
            z = np.ascontiguousarray(logits)
            token = library.draw(z.ctypes.data, *rest)
        else:
            z = np.ascontiguousarray(logits, dtype=np.float64)
            which = None if ids is None else np.ascontiguousarray(ids, dtype=np.int64)
            token = library.draw_among(z.ctypes.data, None if which is None else which.ctypes.data, *rest)
        return token
    members = np.arange(len(logits)) if ids is None else ids
    with np.errstate(over="ignore"):  # a tiny T sends differences to infinity
        tempered = (logits.astype(np.float64) - greatest) / temperature
    return int(members[(tempered + noise.keyed(key, members)).argmax()])


def _native(logits: Tensor, temperatures: Sequence[float], best: int) -> list[Summary]:
    rows, vocab = logits.shape
    # ctypes' own arrays: less of Python and numpy to bring back into a cache that the weights went through.
    numbers, ids = (ctypes.c_double * (4 * rows))(), (ctypes.c_int32 * (best * rows))()
    asked = (ctypes.c_double * rows)(*temperatures)
    library = build.loaded()
    library.summarise(logits.data_ptr(), rows, vocab, asked, best, numbers, ids, library.threads)
    every = np.frombuffer(ids, dtype=np.int32).reshape(rows, best)  # type: ignore[call-overload]
    summaries = []
    for row in range(rows):
        greatest, log_z, entropy, mass = numbers[4 * row : 4 * row + 4]
        summaries.append(Summary(log_z, entropy, greatest, mass, every[row]))
    return summaries
