"""Options that several commands take, each written once."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thermoscope.errors import InvalidRequest

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
DEFAULT_TOKENS = 512

_MODEL = "Loading"
_SAMPLING = "Sampling"

Model = Annotated[
    str,
    typer.Option("--model", "-m", help="A name, a folder, a .gguf file or a hub id.", rich_help_panel=_MODEL),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="fp32, fp16, bf16, int8 or int4.",
        show_default="the fastest that keeps the model's distribution",
        rich_help_panel=_MODEL,
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        min=1,
        help="Tokens of prompt and answer together.",
        show_default="the model's, up to 4096",
        rich_help_panel=_MODEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        max=255,
        help="CPU threads.",
        show_default="physical cores",
        rich_help_panel=_MODEL,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Figure = Annotated[
    Path | None,
    typer.Option("--figure", metavar="FILE", help="Draw it there: a page (.html) or pictures (.png)."),
]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save", metavar="FILE", help="Save the task's vector: .safetensors, or .gguf for llama.cpp."
    ),
]
Steer = Annotated[
    Path | None,
    typer.Option(
        "--steer",
        metavar="FILE",
        help="Steer by a vector that `thermoscope prompting --save` or repeng wrote.",
    ),
]
System = Annotated[str | None, typer.Option("--system", help="System message, before the conversation.")]

Temperature = Annotated[
    float,
    typer.Option("--temperature", help="T from 0 (greedy) to inf (uniform).", rich_help_panel=_SAMPLING),
]
TopP = Annotated[
    float,
    typer.Option("--top-p", help="Mass of the nucleus, 0 (one token) to 1 (all).", rich_help_panel=_SAMPLING),
]
TopK = Annotated[
    int, typer.Option("--top-k", help="Tokens to keep at most; 0 keeps all.", rich_help_panel=_SAMPLING)
]
MinP = Annotated[
    float,
    typer.Option(
        "--min-p",
        help="Least probability to keep, as a fraction of the best token's.",
        rich_help_panel=_SAMPLING,
    ),
]
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        help="Whose order and edges: openai (Thermoscope's own), hf, vllm, sglang or llama.cpp.",
        rich_help_panel=_SAMPLING,
    ),
]
DynatempRange = Annotated[
    float,
    typer.Option(
        "--dynatemp-range",
        help="T follows the entropy, so far below and above --temperature; 0 is off.",
        rich_help_panel=_SAMPLING,
    ),
]
DynatempExponent = Annotated[
    float,
    typer.Option(
        "--dynatemp-exponent",
        help="How steeply T follows the entropy's share of its greatest.",
        rich_help_panel=_SAMPLING,
    ),
]
TopNSigma = Annotated[
    float,
    typer.Option(
        "--top-n-sigma",
        help="Standard deviations of the logits below the greatest that are kept; inf keeps all.",
        rich_help_panel=_SAMPLING,
    ),
]
TypicalP = Annotated[
    float,
    typer.Option(
        "--typical-p",
        help="Mass of the tokens whose surprise is nearest to the entropy; 1 keeps all.",
        rich_help_panel=_SAMPLING,
    ),
]
Epsilon = Annotated[
    float, typer.Option("--epsilon", help="Least probability to keep, 0 to 1.", rich_help_panel=_SAMPLING)
]
Eta = Annotated[
    float,
    typer.Option(
        "--eta",
        help="Least probability to keep, 0 to 1, lower where the entropy is high.",
        rich_help_panel=_SAMPLING,
    ),
]
XtcProbability = Annotated[
    float,
    typer.Option(
        "--xtc-probability",
        help="How often the top choices are left out; 0 is off.",
        rich_help_panel=_SAMPLING,
    ),
]
XtcThreshold = Annotated[
    float,
    typer.Option(
        "--xtc-threshold",
        help="Probability from which on a token is a top choice; the last of them stays.",
        rich_help_panel=_SAMPLING,
    ),
]
MirostatTau = Annotated[
    float,
    typer.Option(
        "--mirostat-tau",
        help="Mean surprise to steer to (Mirostat 2), in bits; inf is off.",
        rich_help_panel=_SAMPLING,
    ),
]
MirostatEta = Annotated[
    float, typer.Option("--mirostat-eta", help="How fast Mirostat steers.", rich_help_panel=_SAMPLING)
]
DryMultiplier = Annotated[
    float,
    typer.Option(
        "--dry-multiplier",
        help="Nats off a token that would make a repetition one longer than is free; 0 is off.",
        rich_help_panel=_SAMPLING,
    ),
]
DryBase = Annotated[
    float,
    typer.Option(
        "--dry-base", help="Factor on these nats for each further token.", rich_help_panel=_SAMPLING
    ),
]
DryAllowedLength = Annotated[
    int,
    typer.Option(
        "--dry-allowed-length",
        help="Longest repetition that costs no more than the multiplier.",
        rich_help_panel=_SAMPLING,
    ),
]
DryBreaker = Annotated[
    list[int] | None,
    typer.Option(
        "--dry-breaker",
        help="A token id that no repetition reaches across; repeatable.",
        rich_help_panel=_SAMPLING,
    ),
]
RepetitionPenalty = Annotated[
    float,
    typer.Option(
        "--repetition-penalty",
        help="Divides the positive and multiplies the negative logits of tokens seen anywhere; 1 is neutral.",
        rich_help_panel=_SAMPLING,
    ),
]
PresencePenalty = Annotated[
    float,
    typer.Option(
        "--presence-penalty",
        help="Nats off every token that the answer holds, -2 to 2.",
        rich_help_panel=_SAMPLING,
    ),
]
FrequencyPenalty = Annotated[
    float,
    typer.Option(
        "--frequency-penalty",
        help="Nats off a token for each time that the answer holds it, -2 to 2.",
        rich_help_panel=_SAMPLING,
    ),
]
LogitBias = Annotated[
    list[str] | None,
    typer.Option(
        "--logit-bias",
        metavar="ID=NATS",
        help="Nats added to a token's logit, -100 to 100; repeatable.",
        rich_help_panel=_SAMPLING,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Fixes the noise.", show_default="a fresh one", rich_help_panel=_SAMPLING),
]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", help="A string that ends the answer; repeatable.", rich_help_panel=_SAMPLING),
]
StopId = Annotated[
    list[int] | None,
    typer.Option("--stop-id", help="A token id that ends the answer; repeatable.", rich_help_panel=_SAMPLING),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        help="Tokens of an answer at most.",
        show_default=f"{DEFAULT_TOKENS}, or what the context leaves",
        rich_help_panel=_SAMPLING,
    ),
]
Choices = Annotated[
    int, typer.Option("-n", help="Independent answers to the prompt, 1 to 128.", rich_help_panel=_SAMPLING)
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos", help="Go on past the model's own end (for measuring).", rich_help_panel=_SAMPLING
    ),
]


def logit_bias(pairs: list[str] | None) -> dict[int, float]:
    """`["262=-5", "13=2.5"]` as a mapping."""
    bias: dict[int, float] = {}
    for pair in pairs or []:
        token, _, nats = pair.partition("=")
        try:
            bias[int(token)] = float(nats)
        except ValueError:
            raise InvalidRequest(
                f"--logit-bias: got {pair!r}, expected a token id and nats, as in 262=-5.", param="logit_bias"
            ) from None
    return bias


def text(option: str, value: str) -> str:
    """Refuse text that is not UTF-8: the shell hands its bytes over as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{option}: got bytes that are not UTF-8, expected text.") from None
    return value


def name(option: str, value: str) -> str:
    """Refuse a name that is none: what a shell makes of a variable that is not set."""
    if not value.strip():
        raise InvalidRequest(f"{option}: got an empty text, expected a name; give one, or leave it out.")
    return text(option, value)


def said(prompt: str | None) -> str:
    """The prompt from the command line or from stdin, without the line end that `echo` adds."""
    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        try:
            prompt = sys.stdin.buffer.read().decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise InvalidRequest("stdin: got bytes that are not UTF-8, expected text.") from None
    if prompt is None or not prompt.strip():
        raise InvalidRequest('prompt: got nothing, expected text between quotes, as "Hello".')
    return text("prompt", prompt)


def load_model(
    name: str,
    *,
    precision: str | None,
    context: int | None,
    threads: int | None,
    slots: int,
    progress: bool,
) -> "LanguageModel":
    """Load as the options say; here is where the engine is imported."""
    from thermoscope.engine.language_model import load

    return load(name, precision=precision, context=context, slots=slots, threads=threads, progress=progress)
