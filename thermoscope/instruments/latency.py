r"""How long a model takes over a prompt and an answer on a device, component by component, before it is run.

Counted from the model's shape: what each component reads and computes, against what kernels of its kind reach
of the device's bandwidth and matrix rates. Every time is a band with a reason. `--calibrate` measures this
machine, which is then the device `this`.
"""

from typing import TYPE_CHECKING

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import settings as shape
from thermoscope.instruments.shape.model import Shape
from thermoscope.instruments.shape.reading import Reading, joined
from thermoscope.instruments.shape.settings import Text, setting

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.planning.latency.prediction import Request, Source

QUESTION = "How long will inference take?"
LAW = r"T_{pos} + N\,(T_{attn} + T_{\text{ffn}} + T_{ln}) + T_{ln} + T_{proj}"
LOADS_MODEL = False
MOST = 10_000_000  # tokens


class Settings(shape.Settings):
    """What is run, on what."""

    model: Shape | None = setting(
        None, meaning="A model of the catalogue, a folder, a config.json, a .gguf file or a Hugging Face id.",
        unit="model", argument=True,
    )  # fmt: skip
    gpu: Text | None = setting(
        None, meaning="The device; `this` is this machine once it was measured, and the default then.",
        unit="device", min_length=1, max_length=100,
    )  # fmt: skip
    dtype: Text = setting(
        "bf16", meaning="Precision of activations and of weights that are not quantised: fp32, fp16 or bf16.",
        unit="precision", min_length=1, max_length=16,
    )  # fmt: skip
    weights: Text | None = setting(
        None, meaning="How weights are kept: int8, int4-g128, q4_k …; the default is as --dtype says.",
        unit="format", min_length=1, max_length=32,
    )  # fmt: skip
    kv: Text | None = setting(
        None, meaning="How keys and values are kept: fp16, fp8, int8 …; the default is as --dtype says.",
        unit="format", min_length=1, max_length=16,
    )  # fmt: skip
    framework: Text | None = setting(
        None, meaning="The class of program: serving, eager, compiled, llama.cpp, edge or fastertransformer.",
        unit="class", min_length=1, max_length=32,
    )  # fmt: skip
    batch: int = setting(1, meaning="Sequences at once.", unit="sequences", ge=1, le=1_000_000)
    input: int = setting(512, meaning="Tokens of each prompt.", unit="tokens", ge=1, le=MOST)
    output: int = setting(100, meaning="Tokens of each answer.", unit="tokens", ge=1, le=MOST)
    tensor: int = setting(1, meaning="Devices that share every layer.", unit="devices", ge=1, le=4096)
    stages: int = setting(
        1, meaning="Devices that hold some layers each, one after another.", unit="devices", ge=1, le=4096
    )
    price: float | None = setting(
        None, meaning="Price of one device.", unit="money an hour", ge=0, le=1_000_000
    )
    acceptance: float | None = setting(
        None, meaning="With a draft model: how likely a guess is accepted.", unit="probability", ge=0, le=1
    )
    guesses: int = setting(4, meaning="Guesses of the draft model in a round.", unit="tokens", ge=1, le=64)
    draft_cost: float = setting(
        0.1, meaning="A pass of the draft model over one of the model.", unit="share", ge=0, le=1
    )
    calibrate: bool = setting(
        False, meaning="Measure this machine, a precision at a time, and keep its profile.", unit="switch"
    )


def read(settings: Settings, lab: "Lab") -> Reading:
    """Measure this machine if asked to, then predict if a model is named."""
    parts = []
    if settings.calibrate:
        if lab.background:
            raise InvalidRequest(
                "calibrate: got true over HTTP, expected false: it holds the server's machine for minutes, "
                "and keeps a file there; run `thermoscope latency --calibrate` on it.",
                param="calibrate",
            )
        from thermoscope.instruments._calibration import calibrated

        parts.append(calibrated(lab))
    elif settings.model is None:
        raise InvalidRequest("model: missing, and it is required unless calibrate is set.", param="model")
    if settings.model is not None:
        from thermoscope.instruments import _latency as say

        lab.progress("counting", 0, 1)
        request, source, assumed = resolve(settings)
        parts += [say.fit(request), *say.times(request, source, settings, assumed)]
        lab.progress("counting", 1, 1)
    return joined(*parts)


def resolve(settings: Settings) -> "tuple[Request, Source, list[str]]":
    """What is asked, with every default spelled out, and where its seconds come from.

    **Errors:** `InvalidRequest` for a device, a format or a framework that is not known.
    """
    from thermoscope.catalogue.hardware import hardware
    from thermoscope.planning.latency import machine
    from thermoscope.planning.latency.efficiency import fitted
    from thermoscope.planning.latency.formats import activation_bytes, weight_format
    from thermoscope.planning.latency.frameworks import MEANINGS, framework
    from thermoscope.planning.latency.prediction import Ceilings, Request

    assert settings.model is not None
    assumed = []
    source: Source
    name = settings.gpu
    if name is None and machine.path().exists():
        name = "this"
        assumed.append("gpu: this machine, which was measured.")
    if name is None:
        raise InvalidRequest(
            "gpu: missing; name a device (`thermoscope hardware` lists all), or measure this machine with "
            "`thermoscope latency --calibrate`.",
            param="gpu",
        )
    activation_bytes(settings.dtype)
    kept = settings.weights or settings.dtype
    format_ = weight_format(kept)
    if settings.weights is None:
        assumed.append(f"weights: {kept}, as dtype says.")
    cache = settings.kv or settings.dtype
    if settings.kv is None:
        assumed.append(f"kv: {cache}, as dtype says.")
    if name in machine.NAMES:
        profile = machine.load()
        device, source = profile.device, profile
        program = machine.framework(kept, settings.framework)
        assumed.append(f"This machine as it was measured: {profile.measured}.")
    else:
        device, source = hardware(name), Ceilings(fitted())
        program = framework(settings.framework or "serving")
        if settings.framework is None:
            assumed.append(f"framework: {program}, {MEANINGS[program]}.")
    if settings.dtype == "bf16" and not device.bf16:
        assumed.append(
            f"{device.name} has no bfloat16 in its matrix units, so it is slow there; --dtype fp16 is not."
        )
    request = Request(
        shape=settings.model, device=device, framework=program, precision=settings.dtype, format=format_,
        cache=cache, batch=settings.batch, prompt=settings.input, answer=settings.output,
        tensor=settings.tensor, stages=settings.stages,
    )  # fmt: skip
    return request, source, assumed
