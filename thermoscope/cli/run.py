"""`thermoscope run`: one prompt, one answer."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thermoscope.cli import options
from thermoscope.cli.answer import Answer, check_writable, save_traces
from thermoscope.cli.steps import steps_table
from thermoscope.cli.terminal import console, note, print_json, visible
from thermoscope.errors import InvalidRequest

if TYPE_CHECKING:
    from thermoscope.engine.sequence import Delta
    from thermoscope.engine.steering import Steering


SLOTS = 8  # answers at once; more of them wait their turn


def run(
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="[PROMPT]", help="What to say; `-`, or nothing when piped, reads stdin."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Plain text, without the chat template.")] = False,
    system: options.System = None,
    json: options.Json = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Save the trace there; with -n one for each answer, as name.0.json, name.1.json.",
        ),
    ] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Show a table with a row a token.")] = False,
    steer: options.Steer = None,
    profile: options.Profile = "openai",
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    min_p: options.MinP = 0.0,
    typical_p: options.TypicalP = 1.0,
    epsilon: options.Epsilon = 0.0,
    eta: options.Eta = 0.0,
    top_n_sigma: options.TopNSigma = math.inf,
    xtc_probability: options.XtcProbability = 0.0,
    xtc_threshold: options.XtcThreshold = 0.1,
    mirostat_tau: options.MirostatTau = math.inf,
    mirostat_eta: options.MirostatEta = 0.1,
    dynatemp_range: options.DynatempRange = 0.0,
    dynatemp_exponent: options.DynatempExponent = 1.0,
    dry_multiplier: options.DryMultiplier = 0.0,
    dry_base: options.DryBase = 1.75,
    dry_allowed_length: options.DryAllowedLength = 2,
    dry_breaker: options.DryBreaker = None,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    presence_penalty: options.PresencePenalty = 0.0,
    frequency_penalty: options.FrequencyPenalty = 0.0,
    logit_bias: options.LogitBias = None,
    seed: options.Seed = None,
    stop: options.Stop = None,
    stop_id: options.StopId = None,
    max_tokens: options.MaxTokens = None,
    n: options.Choices = 1,
    ignore_eos: options.IgnoreEos = False,
    model: options.Model = options.DEFAULT_MODEL,
    precision: options.Precision = None,
    context: options.Context = None,
    threads: options.Threads = None,
) -> None:
    """Answer one prompt, streamed; Ctrl-C stops, and keeps what came."""
    from thermoscope.engine.request import Sampling

    said = options.said(prompt)
    if raw and system is not None:
        raise InvalidRequest("--system: a raw prompt has no system message; leave out --raw or --system.")
    sampling = Sampling(
        profile=profile,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        typical_p=typical_p,
        epsilon=epsilon,
        eta=eta,
        top_n_sigma=top_n_sigma,
        xtc_probability=xtc_probability,
        xtc_threshold=xtc_threshold,
        mirostat_tau=mirostat_tau,
        mirostat_eta=mirostat_eta,
        dynatemp_range=dynatemp_range,
        dynatemp_exponent=dynatemp_exponent,
        dry_multiplier=dry_multiplier,
        dry_base=dry_base,
        dry_allowed_length=dry_allowed_length,
        dry_breakers=tuple(dry_breaker or ()),
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=options.logit_bias(logit_bias),
        seed=seed,
        stop=tuple(options.text("--stop", string) for string in stop or ()),
        stop_ids=tuple(stop_id or ()),
        max_tokens=max_tokens,
        n=n,
        ignore_eos=ignore_eos,
    )
    messages = [{"role": "user", "content": said}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": options.text("--system", system)})
    if trace is not None:
        check_writable(trace)
    vector = steering(steer)
    progress = not json and sys.stderr.isatty()
    with options.load_model(
        model, precision=precision, context=context, threads=threads, slots=min(n, SLOTS), progress=progress
    ) as loaded:
        tokenizer = loaded.tokenizer
        tokens = tokenizer.prompt(said) if raw else tokenizer.chat(messages)
        answer = Answer(loaded, tokens, sampling, vector)
        answer.stream(lambda delta: None if json else _show(delta, answer))
    if not json:
        _show_rest(answer)
    paths: list[Path] = []
    try:
        paths = save_traces(answer, trace) if trace is not None else []
    finally:  # a disk that is full costs the trace, not the answer
        if json:
            print_json(answer.to_dict(paths=paths, steps=steps))
    if not json:
        for path in paths:
            note(f"trace: {path}")
        for each in answer.traces if steps else []:
            console().print(steps_table(each, tokenizer.piece))
    if answer.interrupted:
        raise typer.Exit(130)


def steering(path: Path | None) -> "Steering | None":
    """The vector of a file."""
    if path is None:
        return None
    from thermoscope.engine.steering import load

    return load(path)


def _show(delta: "Delta", answer: Answer) -> None:
    """One answer is shown as it comes; several, which come interleaved, each when it is whole."""
    if answer.sampling.n == 1:
        print(visible(delta.text), end="", flush=True)
    elif delta.finish_reason is not None:
        print(f"[{delta.choice}] {visible(answer.texts[delta.choice])}", flush=True)


def _show_rest(answer: Answer) -> None:
    """End the line; of several answers, show those that Ctrl-C cut short."""
    if answer.sampling.n == 1:
        print(flush=True)
        return
    for trace in answer.traces:
        if trace.finish_reason is None:
            print(f"[{trace.choice}] {visible(trace.text)}", flush=True)
