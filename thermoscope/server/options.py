"""What a server may be told when it is started."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thermoscope.engine.steering import Steering


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a server behaves, whatever model it has.

    - `aliases`: further names that the model answers to.
    - `hosts`: names that a Host header may have, as `Hosts` says; None for any, where no port is open.
    - `vectors`: what answers may be steered by, by name.
    """

    aliases: Sequence[str] = ()
    hosts: Sequence[str] | None = None
    vectors: "Mapping[str, Steering]" = field(default_factory=dict)


DEFAULTS = Options()
