"""What the figures are held to: from every round's raw figures to lines with a verdict each."""

from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

MB = 1e6


class Line(NamedTuple):
    """One row of the table. `target` is what the figure is held to; `met` is None where there is none."""

    name: str
    figure: str
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


class Rounds:
    """Every round's figures by name; a figure is the median, a ratio the median of the rounds' ratios."""

    def __init__(self, rounds: list[dict[str, Any]]) -> None:
        self.rounds = rounds

    def has(self, key: str) -> bool:
        return key in self.rounds[0]

    def middle(self, key: str | Callable[[dict[str, Any]], float]) -> float:
        value = key if callable(key) else lambda each: each[key]
        return median(value(each) for each in self.rounds)

    def against(self, name: str, key: str, other: str, least: float | None, label: str) -> Line:
        """A line of one figure against another, if both were measured."""
        if not (self.has(key) and self.has(other)):
            return Line(name, "not measured", None, f"≥ {least:g}×" if least else "")
        ratio = self.middle(lambda each: each[key] / each[other])
        figure = f"{self.middle(key):.0f} tok/s, {label} {self.middle(other):.0f}"
        return Line(name, figure, ratio, f"≥ {least:g}×" if least else "", ratio >= least if least else None)

    def all(self, key: str) -> bool:
        return all(each[key] for each in self.rounds)


def report(measured: dict[str, Any]) -> list[Line]:
    """The lines that the project holds itself to, and those that explain them."""
    rounds, about = Rounds(measured["rounds"]), measured["about"]
    before, tokens, depth = about["before"], about["tokens"], about["depth"]
    lines = [
        rounds.against(
            f"1 request, {tokens} tokens after {before}", "one_decoding", "llama_one", 1.4, "llama.cpp"
        ),
        bandwidth_line(rounds, measured["bytes"], tokens),
        rounds.against("8 requests at once, decoding", "eight_decoding", "llama_eight", 3.0, "llama.cpp"),
        rounds.against(f"prefill {about['prompt']}", "prefill", "llama_prefill", 3.0, "llama.cpp"),
        rounds.against(f"decoding after {depth}", "deep_decoding", "llama_deep", 1.2, "llama.cpp"),
        second_line(rounds, measured["second"]),
        sampler_line(rounds, "1 row", "one_step", 0.05),
        sampler_line(rounds, "8 rows", "eight_step", 0.10),
        rounds.against("1 request, prompt included", "one", "transformers", 2.0, "transformers bf16"),
        rounds.against("8 in one batch, decoding", "eight_decoding", "one_decoding", 3.0, "one"),
        rounds.against("8 requests, prompts included", "eight", "one", None, "one"),
        records_line(rounds, "1", "one"),
        records_line(rounds, "8", "eight"),
        seconds_line("cold process to first token", rounds.middle("cold_start_s"), 2.5),
    ]
    if measured["first_start_s"] is not None:
        lines.append(seconds_line("first start ever, model fetched", measured["first_start_s"], 12))
    lines.append(resident_line(measured["serving"], about["serving_context"]))
    peak = measured["peak_bytes"]
    lines.append(
        Line("peak of the measured process", f"{peak / MB:.0f} MB", None, "≤ 1200 MB", peak <= 1200 * MB)
    )
    if measured["distance"]:
        kl, counted = measured["distance"]["kl"], measured["distance"]["tokens"]
        lines.append(
            Line(
                f"mean KL to fp32, {counted} tokens",
                f"{kl:.2g} nats; top-1 {measured['distance']['agreement']:.1%}",
                **{"target": "≤ 0.005 nats", "met": kl <= 0.005},
            )
        )
    return [*lines, *agreement_lines(measured["agreement"])]


def bandwidth_line(rounds: Rounds, read: dict[str, Any], tokens: int) -> Line:
    """Decoding's share of the speed that reading the weights alone would allow."""
    weights, cache = read["weights"], read["cache"]
    share = rounds.middle(lambda each: each["one_decoding"] * weights / each["bandwidth"])
    whole = rounds.middle(lambda each: each["one_decoding"] * (weights + cache) / each["bandwidth"])
    figure = f"{weights / MB:.1f} MB a step at {rounds.middle('bandwidth') / 1e9:.1f} GB/s"
    return Line(
        f"share of the memory limit, {tokens} tokens",
        f"{share:.1%}: {figure}; with the cache {whole:.1%}",
        **{"target": "≥ 55%", "met": share >= 0.55},
    )


def second_line(rounds: Rounds, about: dict[str, Any] | None) -> Line:
    name, target = "second model, decoding", "≥ 1×"
    if about is None:
        return Line(name, "not measured: no --second-model", None, target)
    if "error" in about:
        return Line(name, f"skipped: {about['error']}", None, target)
    return rounds.against(f"{about['model']}, decoding", "second", "llama_second", 1.0, "llama.cpp")


def sampler_line(rounds: Rounds, name: str, key: str, most: float) -> Line:
    """Summaries, draws and records as a share of a recorded step."""

    def share(*parts: str) -> float:
        return rounds.middle(
            lambda each: sum(each[key].get(part, 0) for part in parts) / sum(each[key].values())
        )

    taken = share("sampler")
    step = rounds.middle(lambda each: sum(each[key].values()))
    return Line(
        f"sampler and record, {name}",
        f"{taken:.1%} of {step * 1e3:.2f} ms; with text and bookkeeping {share('sampler', 'python'):.1%}",
        **{"target": f"≤ {most:.0%}", "met": taken <= most},
    )


def records_line(rounds: Rounds, name: str, key: str) -> Line:
    slower = rounds.middle(lambda each: each[f"{key}_unrecorded_decoding"] / each[f"{key}_decoding"])
    same = rounds.all("same_tokens")
    on, off = rounds.middle(f"{key}_decoding"), rounds.middle(f"{key}_unrecorded_decoding")
    words = "tokens the same" if same else "TOKENS DIFFER"
    return Line(
        f"records on, batch of {name}",
        f"{on:.0f} tok/s, off {off:.0f}; {words}",
        **{"ratio": slower, "target": "≤ 1.05×", "met": slower <= 1.05 and same},
    )


def seconds_line(name: str, seconds: float, most: float) -> Line:
    return Line(name, f"{seconds:.2f} s", None, f"≤ {most:g} s", seconds <= most)


def resident_line(serving: dict[str, Any], context: int) -> Line:
    """Judged by what is resident, mapped files included: the strictest of the three."""
    rss, pss, uss = (serving[key] for key in ("rss", "pss", "uss"))
    shared = "" if pss is None else f", PSS {pss / MB:.0f}"
    return Line(
        f"memory of the server, context {context}",
        f"RSS {rss / MB:.0f} MB{shared}, USS {uss / MB:.0f}",
        **{"target": "≤ 600 MB", "met": rss <= 600 * MB},
    )


def agreement_lines(agreement: dict[str, Any] | None) -> list[Line]:
    """How often llama.cpp would have said the same; see agreement.py."""
    if agreement is None:
        return []
    lines = []
    if (top := agreement.get("top1")) is not None:
        same = top["same"] / top["tokens"]
        figure = f"{same:.1%} of {top['tokens']} tokens"
        lines.append(Line("same top-1 as llama.cpp", figure, None, "≥ 97%", same >= 0.97))
    if (greedy := agreement.get("greedy")) is not None:
        gaps = [each["margin"] for each in greedy if each["margin"] is not None]
        worst = max(gaps, default=0.0)
        ours = sum(each["fp32"] == "ours" for each in greedy)
        figure = f"{len(greedy) - len(gaps)} of {len(greedy)} runs the same, fp32 says ours in {ours} of the "
        figure += f"others; widest margin {worst:.3f}"
        lines.append(
            Line("first differences' margin in fp32", figure, None, "≤ 0.3 nats", bool(worst <= 0.3))
        )
    return lines


def table(lines: list[Line]) -> Table:
    out = Table("what", "measured", "ratio", "target", "met", box=box.SIMPLE)
    for line in lines:
        verdict = {True: "yes", False: "NO", None: ""}[line.met]
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}×"
        out.add_row(line.name, line.figure, ratio, line.target, verdict)
    return out


def precision_table(rows: list[dict[str, Any]]) -> Table:
    out = Table(box=box.SIMPLE, title=f"distance to fp32 over {rows[0]['tokens']} tokens")
    for name in ("precision", "decode tok/s", "prefill tok/s", "peak MB", "mean KL, nats", "same top-1"):
        out.add_column(name, justify="left" if name == "precision" else "right")
    for row in rows:
        speeds = (f"{row['decode']:.0f}", f"{row['prefill']:.0f}", f"{row['peak_bytes'] / MB:.0f}")
        out.add_row(row["precision"], *speeds, f"{row['kl']:.2g}", f"{row['agreement']:.1%}")
    return out
