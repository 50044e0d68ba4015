"""What the card `latency` says about a request: whether it fits, how long it takes, and where the time
goes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from thermoscope.instruments.shape.figure import Figure, axes, bars, line, points
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table
from thermoscope.planning.latency import card, prediction
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.prediction import Prediction, Request, Source
from thermoscope.planning.latency.roofline import ceiling
from thermoscope.planning.memory import device, inference, search
from thermoscope.planning.memory.inference import Inference
from thermoscope.planning.memory.parallel import Parallel

if TYPE_CHECKING:
    from thermoscope.instruments.latency import Settings

GIB = 2**30
SMALLER = ("fp16", "int8", "int4-g128")
PARTS = (
    Column("phase", "Prompt, or one step of the answer"),
    Column("component", "What is done"),
    Column("count", "How often in a pass"),
    Column("milliseconds", "All of them", "ms"),
    Column("share", "Of the pass", "%", ".3g"),
    Column("limit", "What decides it"),
    Column("gflop", "Operations, all of them", "10⁹"),
    Column("megabytes", "Bytes read and written, all of them", "10⁶ bytes"),
)
TIMES = (
    Column("what", "What is timed"),
    Column("seconds", "Predicted", "s"),
    Column("low", "Nine of ten lie above", "s"),
    Column("high", "Nine of ten lie below", "s"),
    Column("reason", "Why the band is so wide"),
)
TERMS = (
    Column("term", "Of the card's formula"),
    Column("form", "Its order"),
    Column("card", "With the card's own numbers", "", ".3e"),
    Column("model", "With this model's", "", ".3e"),
    Column("flop", "Operations that it takes in the prompt", "", ".3e"),
    Column("bytes", "Bytes that it moves", "bytes", ".3e"),
    Column("milliseconds", "Time in the prompt", "ms"),
    Column("differs", "Where the card's form and the exact one part"),
)
EXACT = 1e-12


def fit(request: Request) -> Reading:
    """Whether weights, cache and one pass fit the devices; if not, how many would do and what would fit on
    one.
    """
    on, job = request.device, _job(request)
    needed, usable = device.needed(inference.plan(job)), device.usable(on)
    kept = f"{request.shape.name} in {request.format.name}"
    every = "" if request.tensor * request.stages == 1 else " of each device"
    if needed <= usable:
        return Reading(
            findings=[
                f"It fits: {kept} needs {needed / GIB:.1f} GiB{every}; "
                f"{on.name} has {usable / GIB:.1f} GiB usable."
            ]
        )
    alone = replace(job, parallel=Parallel())
    total = device.needed(inference.plan(alone))
    count, shared = math.ceil(total / usable), search.fewest_devices(alone, on)
    others = [name for name in SMALLER if FORMATS[name].bits < request.format.bits and _fits(request, name)]
    said = [
        f"It does not fit: {kept} needs {needed / GIB:.1f} GiB{every}, and "
        f"{on.name} has {usable / GIB:.2f} GiB usable.",
        f"By bytes it takes {count} × {on.name}"
        + (f"; {shared} where every layer is shared (heads must divide)." if shared else "."),
        f"What fits on one: weights in {' or '.join(others)}."
        if others
        else "No smaller format fits on one.",
        "The times below are hypothetical: as if the memory were there.",
    ]
    return Reading(findings=said)


def _job(request: Request) -> Inference:
    return Inference(
        shape=request.shape, weights=request.format.stored, kv=request.cache, batch=request.batch,
        sequence=request.prompt + request.answer,
        parallel=Parallel(tensor=request.tensor, pipeline=request.stages),
    )  # fmt: skip


def _fits(request: Request, name: str) -> bool:
    smaller = replace(request, format=FORMATS[name], precision="fp16", cache="fp16")
    return search.fits(_job(smaller), request.device)


def times(
    request: Request, source: Source, settings: "Settings", assumed: Sequence[str]
) -> Iterator[Reading]:
    """The times with their bands, the components, the card's own terms, and the roofline."""
    found = prediction.predict(request, source)
    yield _summary(found, source, settings, assumed)
    yield _components(found)
    yield _terms(found)
    yield _roofline(found)


def _summary(found: Prediction, source: Source, settings: "Settings", assumed: Sequence[str]) -> Reading:
    request = found.request

    first = source.band(request, found.first, "prefill")
    rows: list[tuple[Cell, ...]] = [("first token", found.first, first.low, first.high, first.reason)]
    low, high = first.low, first.high
    said = []
    if found.decode is not None:
        each = source.band(request, found.each, "decode")
        rows.append(("each further token", found.each, each.low, each.high, each.reason))
        low += (request.answer - 1) * each.low
        high += (request.answer - 1) * each.high
        longest = max(found.decode.parts, key=lambda part: part.seconds)
        limit = "the processor's launches" if found.decode.host > found.decode.device else longest.limit
        said.append(
            f"Each further token takes {_time(found.each)} ({1 / found.each:.3g} tokens/s a sequence); "
            f"most of it is "
            f"{longest.work.name}, and {limit} decides."
        )
    rows.append(("all", found.total, low, high, "prompt and answer together, each at its bound"))
    said.insert(
        0,
        f"{request.prompt} tokens in, {request.answer} out, batch {request.batch}: {_time(found.total)} "
        f"({_time(low)} to {_time(high)}), {found.throughput:.3g} tokens/s; "
        f"the first token after {_time(found.first)}.",
    )
    if settings.price is not None:
        cost = found.cost(settings.price)
        many = request.batch * request.answer
        said.append(
            f"At {settings.price:g} an hour it costs {cost:.3g}, or {cost / many * 1e6:.3g} a million tokens."
        )
    if settings.acceptance is not None:
        factor = prediction.speculation(
            request,
            source,
            acceptance=settings.acceptance,
            cost=settings.draft_cost,
            guesses=settings.guesses,
        )
        said.append(
            f"With a draft model (α = {settings.acceptance:g}, c = {settings.draft_cost:g}, "
            f"γ = {settings.guesses}) "
            f"tokens come {factor:.3g} times as fast."
        )
    parts = [part.seconds for step in (found.prefill, found.decode) if step for part in step.parts]
    return Reading(
        findings=said,
        tables=[Table("times", "Times, and between which bounds", TIMES, rows)],
        checks=[_products(found), _cache(found)],
        notes=[
            *assumed,
            f"{len(parts)} components; activations {request.precision}, products as their weights say.",
        ],
    )


def _products(found: Prediction) -> Check:
    """Operations of all products, and twice the active parameters for every token of the prompt."""
    request, shape = found.request, found.request.shape
    tables = shape.embedding.parameters + shape.context * shape.hidden * (shape.positions == "learned")
    tables += shape.norm_parameters * (1 + shape.embedding_norm) + shape.layers * shape.layer_extras
    biases = sum(
        each.rows * each.active * each.bias for layer in range(shape.layers) for each in shape.matrices(layer)
    )
    head = shape.vocab * shape.head_bias + (0 if shape.tied else shape.vocab * shape.hidden)
    inner = shape.active_parameters - tables - biases - head
    expected = 2.0 * request.batch * (request.prompt * inner + shape.vocab * shape.hidden) / request.tensor
    counted = math.fsum(
        part.work.count * part.work.flops for part in found.prefill.parts if part.work.kind == "product"
    )
    routed = sum(
        2.0 * request.batch * request.prompt * each.rows * each.columns * (1 - 1 / request.tensor)
        for layer in range(shape.layers)
        for each in shape.mlp(layer)
        if each.name in ("router", "shared.scale")
    )
    gap = abs(counted - expected - routed) / expected
    return Check(
        "products = 2 · active parameters", "operations of the prompt, and the parameter count", gap, EXACT
    )


def _cache(found: Prediction) -> Check:
    """Bytes of the cache that one step more reads, and what memory says a token adds."""
    request, shape = found.request, found.request.shape

    def read(past: int) -> float:
        from thermoscope.planning.latency.work import components

        works = components(shape, replace(request.run(1, past), tensor=1))
        return math.fsum(work.count * work.traffic for work in works if work.kind == "attention")

    grown = (read(request.prompt + 1) - read(request.prompt)) / request.batch
    told = inference.cache_bytes(shape, request.prompt + 2, request.cache)
    told -= inference.cache_bytes(shape, request.prompt + 1, request.cache)
    gap = abs(grown - told) / max(1.0, told)
    return Check(
        "a token's share of the cache", "bytes that attention reads, and the memory planner", gap, EXACT
    )


def _components(found: Prediction) -> Reading:
    rows: list[tuple[Cell, ...]] = []
    figures = []
    steps = {"prompt": found.prefill} | ({"step": found.decode} if found.decode else {})
    for phase, step in steps.items():
        for part in step.parts:
            work = part.work
            rows.append(
                (
                    phase, work.name, work.count, 1e3 * part.seconds, 100 * part.seconds / step.device,
                    part.limit,
                    work.count * work.flops / 1e9, work.count * work.bytes / 1e6,
                )
            )  # fmt: skip
        rows.append(
            (phase, "once a pass", 1, 1e3 * step.fixed, 100 * step.fixed / step.device, "overhead", 0, 0)
        )
        figures.append(
            bars(
                [part.work.name for part in step.parts], [1e3 * part.seconds for part in step.parts],
                "the prompt" if phase == "prompt" else "one step of the answer",
            )
        )  # fmt: skip
    total = math.fsum(part.seconds for part in found.prefill.parts) + found.prefill.fixed
    return Reading(
        tables=[Table("components", "Where the time goes", PARTS, rows)],
        figures=[
            Figure(
                "components", "Time of each component", figures,
                axes("component", "ms", barmode="group", yaxis={"type": "log"}, xaxis={"type": "category"}),
            )
        ],
        checks=[
            Check(
                "components = pass", "sum of the components, and the pass",
                abs(total - found.prefill.device) / found.prefill.device, EXACT,
            )
        ],
    )  # fmt: skip


def _terms(found: Prediction) -> Reading:
    request = found.request
    terms = card.terms(request.shape, request.prompt, found.prefill.parts)
    whole = math.fsum(term.card for term in terms)
    names = "s = {tokens}, d = {hidden}, h = {heads}, v = {vocab}, N = {layers}"
    with_ = names.format(**card.CARD._asdict())
    most = max(terms, key=lambda term: term.card)
    slowest = max(terms, key=lambda term: term.seconds)
    rows: list[tuple[Cell, ...]] = [
        (
            term.name, term.form, term.card, term.model, term.flops, term.bytes, 1e3 * term.seconds,
            term.differs,
        )
        for term in terms
    ]  # fmt: skip
    return Reading(
        findings=[
            f"The card's own terms, with the numbers that stand on it ({with_}): {whole:.3g} in all, "
            f"{100 * most.card / whole:.0f}% of it {most.name}; in time, the most is {slowest.name}.",
            f"Positions: {terms[0].differs}.",
        ],
        tables=[Table("card", "The card's formula beside the exact counts", TERMS, rows)],
        notes=[f"{term.name}: {term.differs}." for term in terms[1:]],
    )


def _roofline(found: Prediction) -> Reading:
    request = found.request
    on = request.device
    rate, measured = ceiling(on, request.format.arithmetic or request.precision)
    ridge = rate / on.bandwidth
    intensities = sorted([ridge, *(10 ** (power / 4) for power in range(-8, 21))])
    traces = [
        line(intensities, [min(rate, each * on.bandwidth) / 1e12 for each in intensities], "roofline"),
    ]
    for step, name in ((found.prefill, "the prompt"), (found.decode, "one step of the answer")):
        if step is None:
            continue
        worked = [part for part in step.parts if part.work.flops and part.work.bytes and part.seconds]
        traces.append(
            points(
                [part.work.flops / part.work.bytes for part in worked],
                [part.work.count * part.work.flops / part.seconds / 1e12 for part in worked],
                name, text=[part.work.name for part in worked],
            )
        )  # fmt: skip
    kind = "measured" if measured else "datasheet"
    log = {"type": "log"}
    return Reading(
        figures=[
            Figure(
                "roofline", f"Operations against bytes on {on.name}", traces,
                axes("operations a byte", "10¹² operations a second", xaxis=log, yaxis=log),
            )
        ],
        notes=[
            f"{on.name}: {on.bandwidth / 1e9:.4g} GB/s and {rate / 1e12:.4g} TFLOP/s ({kind}), so "
            f"products with fewer than {ridge:.3g} operations a byte wait for memory."
        ],
    )  # fmt: skip


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
