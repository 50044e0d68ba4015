"""Who holds which part of a training step."""

from dataclasses import dataclass
from typing import Literal, get_args

from thermoscope.catalogue.architecture import Architecture
from thermoscope.errors import InvalidRequest

Sharding = Literal["none", "ddp", "zero1", "zero2", "zero3", "fsdp1", "fsdp2"]
SHARDINGS = get_args(Sharding)[1:]
SHARDED_GRADIENTS = ("zero2", "zero3", "fsdp1", "fsdp2")
SHARDED_WEIGHTS = ("zero3", "fsdp1", "fsdp2")


@dataclass(frozen=True, kw_only=True)
class Parallel:
    r"""Degrees; $\text{devices} = \text{data}\cdot\text{tensor}\cdot\text{pipeline}\cdot\text{context}$.

    - `data`: replicas, among which `sharding` spreads optimizer states (ZeRO-1), gradients too (ZeRO-2),
      weights too (ZeRO-3, FSDP; Rajbhandari et al. 2020, section 3).
    - `tensor`: devices that share every matrix and every head (Shoeybi et al. 2019).
    - `pipeline`: stages of consecutive layers, one micro-batch under way for each in the first (1F1B).
    - `context`: devices that share a sequence. `expert`: of the replicas, those that share the routed
      experts.
    """

    data: int = 1
    sharding: Sharding = "none"
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1

    @property
    def devices(self) -> int:
        """Devices in all."""
        return self.data * self.tensor * self.pipeline * self.context

    @property
    def replicas(self) -> int:
        """Devices among which a shard of what all of them need is spread."""
        return self.data * self.context

    def share(self, of: tuple[str, ...]) -> int:
        """Devices that share what these ways of sharding spread; 1 where this one is not among them."""
        return self.replicas if self.sharding in of else 1

    def check(self, shape: Architecture, sequence: int) -> None:
        """Refuse degrees that do not divide what they share.

        **Errors:** `InvalidRequest`.
        """
        for name in ("data", "tensor", "pipeline", "context", "expert"):
            if getattr(self, name) < 1:
                raise InvalidRequest(
                    f"{name}: got {getattr(self, name)}, expected a whole number, 1 or more.", param=name
                )
        shared = {
            "tensor": [("heads", shape.heads), ("KV heads", shape.kv_heads), ("MLP columns", shape.ffn)],
            "pipeline": [("layers", shape.layers)],
            "context": [("tokens", sequence)],
            "expert": [
                ("experts", shape.experts.count if shape.experts else 1),
                ("replicas (--data)", self.data),
            ],
        }
        for name, parts in shared.items():
            degree = getattr(self, name)
            for what, count in parts:
                if count % degree:
                    raise InvalidRequest(
                        f"{name}: got {degree}, expected a divisor of {count}, the {what}.", param=name
                    )
        if self.sharding == "none" and self.data > 1:
            raise InvalidRequest(
                f"sharding: got none with {self.data} replicas, expected one of {', '.join(SHARDINGS)}.",
                param="sharding",
            )
