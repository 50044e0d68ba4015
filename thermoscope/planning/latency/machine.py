"""This machine, as it was measured: a profile in the user's own folder, which predictions use as a device.

`instruments/_calibration.py` measures it.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from thermoscope.catalogue.hardware import Hardware
from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency.efficiency import Efficiency, Spread

NAMES = ("this", "cpu")
PRECISIONS = {
    "q4_1": "int4",
    "q8_0": "int8",
    "bf16": "bf16",
    "fp16": "fp16",
    "fp32": "fp32",
}  # by format of weights


def framework(weights: str) -> str:
    """The name that this program's factors stand under, for weights of that format.

    **Errors:** `InvalidRequest` for a format that was not measured.
    """
    if weights not in PRECISIONS:
        raise InvalidRequest(
            f"weights: got {weights!r}, expected one that this machine was measured with: "
            f"{', '.join(PRECISIONS)}.",
            param="weights",
        )
    return f"thermoscope.{PRECISIONS[weights]}"


@dataclass(frozen=True)
class Profile:
    """A device and the factors of its own program, with when and how they were measured."""

    device: Hardware
    factors: dict[str, float]
    measured: str

    @property
    def efficiency(self) -> Efficiency:
        """The factors, with the band that calibration is held to."""
        spread = Spread(0.9, 1.1, 0)
        phases = ("prefill", "decode", "e2e")
        known = dict.fromkeys(phases, (*map(framework, PRECISIONS), self.device.generation.split(" ")[0]))
        return Efficiency(self.factors, dict.fromkeys(phases, spread), {}, known)


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
        return Profile(Hardware(**plain["device"]), plain["factors"], plain["measured"])
    except FileNotFoundError:
        raise InvalidRequest(
            "gpu: this machine was not measured yet; run `thermoscope latency --calibrate` first, or name "
            "a device.",
            param="gpu",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(
            f"gpu: {path()} cannot be read ({error}); run `thermoscope latency --calibrate` to write it "
            "anew.",
            param="gpu",
        ) from None
