"""What a server may be told when it is started."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thermoscope.server.logs import Form

if TYPE_CHECKING:
    from thermoscope.engine.steering import Steering


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a server behaves, whatever model it has.

    - `aliases`: further names that the model answers to.
    - `hosts`: names that a Host header may have, as `Hosts` says; None for any, where no port is open.
    - `vectors`: what answers may be steered by, by name.
    - `keys`: whoever asks must show one of them; without any, everybody may ask.
    - `origins`: sites whose pages may ask, as `https://app.example`.
    - `keep_traces`: the file that keeps all traces; None keeps the last ones in memory.
    - `max_tokens`: of an answer whose request names no limit; None is what the context leaves.
    - `log`: how the log is written.
    - `queue`: answers that may wait for a slot; None for the runner's own bound. `timeout`: seconds for a
      request, from its arrival to its end. `grace`: seconds that answers have to end once it is to stop.
    """

    aliases: Sequence[str] = ()
    hosts: Sequence[str] | None = None
    vectors: "Mapping[str, Steering]" = field(default_factory=dict)
    keys: Sequence[str] = field(default=(), repr=False)
    origins: Sequence[str] = ()
    keep_traces: Path | None = None
    max_tokens: int | None = None
    log: Form = "text"
    queue: int | None = None
    timeout: float = math.inf
    grace: float = 0.0


DEFAULTS = Options()
