"""From repetition to incoherence: what a model's text is like as a function of temperature, 0.1 to 2.

    python -m benchmarks.studies.transition --text FILE --results FILE.jsonl --figure FILE.png

At every temperature the model continues the same beginnings of human text, and is then looked at again in a
replay: entropy and heat capacity of the distributions that it drew from, −log p of what it drew, whether it
ended in a loop. A table for people, and one JSON line last. docs/studies/transition.md says what was found.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from plotly.subplots import make_subplots
from rich.console import Console
from rich.table import Table

from benchmarks.studies.intervals import interval, resampled
from benchmarks.studies.metrics import repeated_phrase
from benchmarks.studies.results import Key
from benchmarks.studies.speaker import seed
from benchmarks.studies.study import Study, parse, run
from thermoscope.engine.replay import Replay, replay
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.trace import Trace
from thermoscope.laws.boltzmann import curve, thermodynamics

HOTTEST = 2.0
EVERY = 4  # of the answer's distributions, this one in how many is taken apart: neighbours tell much the same
CURVES = {
    "repetition": "repetition, %",
    "early": "of the first half",
    "entropy": "entropy",
    "late": "its last half",
    "surprisal": "−log p drawn",
    "heat_capacity": "C of its own text",
    "human": "C of human text",
    "total": "T ds/dT, all",
    "spread": "spread",
}
PEAKED = ("heat_capacity", "human", "total", "spread")


def main() -> None:
    run("transition", parse(__doc__, passages=200, prefix=16, tokens=112, points=20), measure, draw)


def measure(study: Study) -> dict[str, Any]:
    """Every curve with its intervals, and where its peaks are."""
    points, tokens = study.arguments.points, study.arguments.tokens
    temperatures = [round(HOTTEST * number / points, 6) for number in range(1, points + 1)]
    asked = {
        (temperature, number): Request(
            prompt=passage.prompt,
            sampling=Sampling(temperature=temperature, seed=seed(temperature, number), max_tokens=tokens),
        )
        for temperature in temperatures
        for number, passage in enumerate(study.passages)
    }
    study.ask(asked, lambda trace: read(study, trace))
    control = f"human text at {points} temperatures"
    study.fill(
        [(control, number) for number in range(len(study.passages))],
        lambda keys: listen(study, keys, temperatures),
    )
    human = study.results.of(control, len(study.passages))
    rows = [study.results.of(temperature, len(study.passages)) for temperature in temperatures]
    result = {"temperatures": temperatures, **summarise(rows, human, temperatures)}
    result["replay_residual"] = max(row["residual"] for point in rows for row in point)
    result["mean_tokens"] = [float(np.mean([len(row["tokens"]) for row in point])) for point in rows]
    Console(width=150).print(table(result))
    return result


def look(
    study: Study, prompt: Sequence[int], following: Sequence[int]
) -> tuple[Replay, Float[np.ndarray, "some vocab"]]:
    """A replay of both, and of the logits before each token of `following`, every `EVERY`-th."""
    tokens = (*prompt, *following)
    seen = study.lm.runner.call(lambda: replay(study.lm.model, tokens, logits=True))
    assert seen.logits is not None
    return seen, seen.logits[len(prompt) - 1 : -1 : EVERY].numpy()  # the last row is what would come next


def read(study: Study, trace: Trace) -> dict[str, Any]:
    """Of one answer: its tokens, what they were drawn from, and how far the replay was from what spoke."""
    seen, logits = look(study, trace.prompt, trace.tokens)
    states = thermodynamics(logits, trace.sampling["temperature"])
    records = [step.record for step in trace.steps]
    surprisals = [-record.sampler_logprob for record in records if record is not None]
    return {
        "tokens": trace.tokens,
        "entropy": states.entropy.tolist(),
        "heat_capacity": states.heat_capacity.tolist(),
        "surprisal": float(np.mean(surprisals)),
        "residual": seen.logprob_residual(trace),
    }


def listen(
    study: Study, keys: Iterable[Key], temperatures: Sequence[float]
) -> Iterator[tuple[Key, dict[str, Any]]]:
    """The control: mean C at every temperature where the text is human, and so the same at all of them."""
    for key in keys:
        _, logits = look(study, *study.passages[key[1]])
        yield key, {"heat_capacity": curve(logits, temperatures).heat_capacity.mean(axis=0).tolist()}


def summarise(
    rows: list[list[dict[str, Any]]], human: list[dict[str, Any]], temperatures: list[float]
) -> dict[str, Any]:
    """The curves with 95% intervals over passages, a passage's answers at all temperatures drawn together."""
    numbers = [[numbers_of(row) for row in point] for point in rows]
    found = {name: np.array([[each[name] for each in point] for point in numbers]) for name in numbers[0][0]}
    found["human"] = np.array([row["heat_capacity"] for row in human]).T

    def curves(drawn: Any) -> Float[np.ndarray, "curves points"]:
        means = {name: values[:, drawn].mean(axis=1) for name, values in found.items()}
        means["total"] = np.gradient(means["entropy"], np.log(temperatures))
        means["spread"] = found["entropy"][:, drawn].std(axis=1, ddof=1)
        return np.array([means[name] for name in CURVES])

    passages = len(rows[0])
    middle, resamples = curves(np.arange(passages)), resampled(curves, passages)
    low, high = interval(resamples)
    result: dict[str, Any] = {}
    for number, name in enumerate(CURVES):
        ends = {"value": middle[number], "low": low[number], "high": high[number]}
        result[name] = {key: values.tolist() for key, values in ends.items()}
        if name in PEAKED:
            first, last = interval(np.array(temperatures)[resamples[:, number].argmax(axis=1)])
            highest = temperatures[int(middle[number].argmax())]
            result[name]["peak"] = {"value": highest, "low": float(first), "high": float(last)}
    return result


def numbers_of(row: dict[str, Any]) -> dict[str, float]:
    """One answer's part in every mean."""
    tokens, entropy = row["tokens"], row["entropy"]
    return {
        "repetition": 100.0 * (repeated_phrase(tokens) is not None),
        "early": 100.0 * (repeated_phrase(tokens[: len(tokens) // 2]) is not None),
        "entropy": float(np.mean(entropy)),
        "late": float(np.mean(entropy[len(entropy) // 2 :])),
        "surprisal": row["surprisal"],
        "heat_capacity": float(np.mean(row["heat_capacity"])),
    }


def table(result: dict[str, Any]) -> Table:
    """A line for each temperature, ± half an interval's width; the last one says where the peaks are."""
    shown = Table("T", *CURVES.values())
    for number, temperature in enumerate(result["temperatures"]):
        cells = []
        for name in CURVES:
            value, low, high = (result[name][key][number] for key in ("value", "low", "high"))
            digits = 1 if name in ("repetition", "early") else 3
            cells.append(f"{value:.{digits}f} ± {(high - low) / 2:.{digits}f}")
        shown.add_row(f"{temperature:g}", *cells)
    peaks = {name: "{value:g} ({low:g} to {high:g})".format_map(result[name]["peak"]) for name in PEAKED}
    shown.add_section()
    shown.add_row("peak", *(peaks.get(name, "") for name in CURVES))
    return shown


def draw(result: dict[str, Any]) -> Any:
    """Four panels over T, the intervals as bars."""
    panels = (
        ("repetition", "early"),
        ("entropy", "late", "surprisal"),
        ("heat_capacity", "human", "total"),
        ("spread",),
    )
    titles = ("repetition, %", "entropy rate, nats a token", "heat capacity", "spread among answers, nats")
    figure = make_subplots(rows=2, cols=2, vertical_spacing=0.18, subplot_titles=titles)
    for number, panel in enumerate(panels):
        for name in panel:
            curve = result[name]
            value, low, high = (np.array(curve[key]) for key in ("value", "low", "high"))
            bars = {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low}
            figure.add_scatter(
                **{"x": result["temperatures"], "y": value, "error_y": bars, "mode": "lines+markers"},
                **{"name": CURVES[name], "row": number // 2 + 1, "col": number % 2 + 1},
            )
    figure.update_xaxes(title_text="T", row=2)
    title = f"{result['model']}: {result['passages']} continuations of {result['tokens']} tokens at each T"
    figure.update_layout(title_text=title, legend={"orientation": "h", "y": -0.12})
    return figure


if __name__ == "__main__":
    main()
