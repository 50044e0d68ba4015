"""This machine, as it was measured: a profile in the user's own folder, which predictions use as a device.

`instruments/_calibration.py` measures it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from thermoscope.catalogue.hardware import Hardware
from thermoscope.catalogue.precision import Precision
from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency.costs import Costs
from thermoscope.planning.latency.efficiency import Phase, Spread
from thermoscope.planning.latency.prediction import Band, Request, Step
from thermoscope.planning.latency.roofline import Limit, Timed
from thermoscope.planning.latency.work import Pass, Work, components

NAMES = ("this", "cpu")
PRECISIONS: dict[str, Precision] = {
    "q4_1": "int4",
    "q8_0": "int8",
    "bf16": "bf16",
    "fp32": "fp32",
}  # by format
STREAM = 4  # bytes of a number between products, in every precision


def framework(weights: str, asked: str | None = None) -> str:
    """This program's class, if weights of that format are measured and no other program is asked for.

    **Errors:** `InvalidRequest`.
    """
    if weights not in PRECISIONS:
        raise InvalidRequest(
            f"weights: got {weights!r}, expected one that this machine was measured with: "
            f"{', '.join(PRECISIONS)}.",
            param="weights",
        )
    if asked not in (None, "thermoscope"):
        raise InvalidRequest(
            f"framework: got {asked!r}, expected thermoscope: this machine was measured with this program.",
            param="framework",
        )
    return "thermoscope"


@dataclass(frozen=True)
class Profile:
    """A device and what this program costs there by precision, with when and how it was measured.

    `spreads`: measured over predicted, by precision and phase. `piece`: tokens of a prompt that go through at
    once.
    """

    device: Hardware
    costs: Mapping[Precision, Costs]
    spreads: Mapping[Precision, Mapping[Phase, Spread]]
    piece: int
    measured: str

    def prompt(self, request: Request) -> list[tuple[int, Pass]]:
        """Prompts in pieces, one after another; only the last of each gets logits."""
        whole, rest = divmod(request.prompt, self.piece)
        starts = [self.piece * at for at in range(whole + bool(rest))]
        return [
            (
                request.batch,
                dataclasses.replace(
                    request.run(min(self.piece, request.prompt - start), start),
                    batch=1, outputs=int(start == starts[-1]), reading=True,
                ),
            )
            for start in starts
        ]  # fmt: skip

    def step(self, request: Request, run: Pass) -> Step:
        """The times of a pass."""
        if request.several:
            raise InvalidRequest(
                f"tensor: got {request.tensor * request.stages} devices, expected 1: this machine is one.",
                param="tensor",
            )
        costs, run = self.costs[self._precision(request)], dataclasses.replace(run, activations=STREAM)
        parts = [self._timed(costs, work, run) for work in components(request.shape, run)]
        return Step(parts, 0.0, costs.between(run))

    def band(self, request: Request, seconds: float, phase: Phase) -> Band:
        """As far as the measurements lay from costs that were fitted without their shape."""
        spread = self.spreads[self._precision(request)][phase]
        reason = (
            f"measured here: nine tenths of {spread.rows} steps of random models lay so near to what models "
            "of other shapes foretold"
        )
        return Band(seconds * spread.low, seconds * spread.high, reason)

    def _precision(self, request: Request) -> Precision:
        precision = PRECISIONS.get(request.format.name)
        if precision is None or precision not in self.costs:
            raise InvalidRequest(
                f"gpu: this machine was not measured with {request.format.name}; run `thermoscope latency "
                "--calibrate` again.",
                param="gpu",
            )
        return precision

    def _timed(self, costs: Costs, work: Work, run: Pass) -> Timed:
        busy, launching = costs.seconds(work, run)
        reading = work.count * work.bytes / self.device.bandwidth
        limit: Limit = "bandwidth" if 2 * reading > busy else "compute"
        return Timed(work, busy + launching, "overhead" if launching > busy else limit)


def path() -> Path:
    """Where the profile stands."""
    return Path(platformdirs.user_config_dir("thermoscope")) / "machine.json"


def save(profile: Profile) -> Path:
    """Write the profile, and say where."""
    to = path()
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(dataclasses.asdict(profile), indent=1) + "\n", encoding="utf-8")
    return to


def load() -> Profile:
    """The profile that was measured here.

    **Errors:** `InvalidRequest` where there is none, or it cannot be read.
    """
    try:
        plain = json.loads(path().read_text(encoding="utf-8"))
        return Profile(
            Hardware(**plain["device"]),
            {precision: Costs(**each) for precision, each in plain["costs"].items()},
            {
                precision: {phase: Spread(*each) for phase, each in phases.items()}
                for precision, phases in plain["spreads"].items()
            },
            plain["piece"],
            plain["measured"],
        )
    except FileNotFoundError:
        raise InvalidRequest(
            "gpu: this machine was not measured yet; run `thermoscope latency --calibrate` first, or name "
            "a device.",
            param="gpu",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(
            f"gpu: {path()} cannot be read ({error}); run `thermoscope latency --calibrate` to write it "
            "anew.",
            param="gpu",
        ) from None
