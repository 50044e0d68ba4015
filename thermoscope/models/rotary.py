"""Rotary positions: pairs of a query's or key's numbers turn by an angle that grows with the position."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig, RopeScaling


class Rotation(NamedTuple):
    """How far each row turns; the pairs are (i, i + turning / 2)."""

    cos: Float[Tensor, "rows 1 turning"]
    sin: Float[Tensor, "rows 1 turning"]

    def __call__(self, x: Float[Tensor, "rows heads dim"]) -> Float[Tensor, "rows heads dim"]:
        """Turn the first numbers of each head: x cos + roll(x) · [−sin, sin]; the others stay."""
        width = self.cos.shape[-1]
        turned = x[..., :width]
        turned = torch.addcmul(turned * self.cos, turned.roll(width // 2, -1), self.sin)
        return turned if width == x.shape[-1] else torch.cat((turned, x[..., width:]), dim=-1)


class Rotary:
    """Angles for positions.

    - `frequencies`: radians a position, one for each pair. `magnitude`: what the turned numbers grow by.
    """

    def __init__(self, frequencies: Float[Tensor, "half"], magnitude: float = 1.0) -> None:
        self._frequencies, self._magnitude = frequencies, magnitude
        self._signs = torch.tensor([-1.0, 1.0]).repeat_interleave(len(frequencies))

    def turns(self, positions: Int[Tensor, "rows"]) -> tuple[Float[Tensor, "rows half"], ...]:
        """Cosines and sines of each position's angles, times the magnitude."""
        angles = positions[:, None].float() * self._frequencies
        return angles.cos() * self._magnitude, angles.sin() * self._magnitude

    def at(self, positions: Int[Tensor, "rows"]) -> Rotation:
        """The rotation of rows that stand at these positions."""
        cos, sin = (torch.cat((each, each), dim=-1)[:, None] for each in self.turns(positions))
        return Rotation(cos, sin * self._signs)


def rotary_frequencies(config: ModelConfig, *, windowed: bool = False) -> Float[Tensor, "half"]:
    """θ^(−2i/dim) for i < dim / 2, in radians a position, stretched as the config says.

    `windowed`: those of the windowed layers, which may have a base of their own and are then not stretched.
    Source: Su et al. 2021, RoFormer, eq. 15; the llama3 stretch is that of Llama 3.1's release, longrope is
    Ding et al. 2024.
    """
    dim = config.rotary_dim or config.head_dim
    steps = torch.arange(0, dim, 2, dtype=torch.float32) / dim
    if windowed and config.window_rope_theta is not None:
        return 1.0 / config.window_rope_theta**steps
    frequencies = 1.0 / config.rope_theta**steps
    match config.rope_scaling:
        case None:
            return frequencies
        case RopeScaling(kind="linear", factor=factor):
            return frequencies / factor
        case RopeScaling(kind="longrope", factors=factors):
            return frequencies / torch.tensor(factors or 1.0)
        case RopeScaling(factor=factor, low=low, high=high, original_context=context):
            turns = context * frequencies / (2 * math.pi)
            # 0 where a wave is longer than context/low, 1 where it is shorter than context/high
            keep = ((turns - low) / (high - low)).clamp(0, 1)
            return keep * frequencies + (1 - keep) * frequencies / factor
