"""A measured task as a part of a reading."""

from typing import TYPE_CHECKING

import numpy as np

from thermoscope.instruments import _pairs, _task, _unrelated
from thermoscope.instruments._task import CONTROLS, Measured
from thermoscope.instruments._vectors import METHODS, Method
from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table

if TYPE_CHECKING:
    from thermoscope.engine.steering import Mode, Steering
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.instruments.shape.source import File

TASK = (
    Column("arm", "How the items are asked"),
    Column("layer", "Whose stream is steered; the number of layers is before the final norm"),
    Column("strength", "‖β∇‖ in lengths of the mean state, or the multiple of the mean difference"),
    Column("accuracy", "The target's first token is the best", "share", ".3f"),
    Column("logprob", "Mean log p of that token", "nats", ".3f"),
    Column("gain", "Recovered of the prompt's gain in accuracy", "share", ".3f"),
    Column("gain_low", "and where its 95% interval begins", "share", ".3f"),
    Column("gain_high", "and ends", "share", ".3f"),
    Column("recovered", "1 − Σ KL(prompted‖arm) / Σ KL(prompted‖bare)", "share", ".3f"),
    Column("recovered_low", "and where its 95% interval begins", "share", ".3f"),
    Column("recovered_high", "and ends", "share", ".3f"),
    Column("wrong_way", "Items whose target became less likely than without anything", "share", ".3f"),
)
AGAINST = (
    Column("method", "What steers"),
    Column("control", "What is added in its place, of equal norm"),
    Column("difference", "Gain of the method less that of the control", "share of the prompt's", ".3f"),
    Column("low", "and where its 95% interval begins", "share", ".3f"),
    Column("high", "and ends", "share", ".3f"),
    Column("verdict", "Whether the interval lies above 0"),
)
LAYERS = (
    Column("layer", "Whose stream is steered"),
    *(Column(method.replace(" ", "_"), f"Accuracy by {method}", "share", ".3f") for method in METHODS),
    Column("cosine", "sim(h, h_task), mean over held-out items", "cosine", ".3f"),
)
STRENGTH = (
    Column("strength", "‖β∇‖ in lengths of the mean state"),
    Column("gamma", "γ", "units² a nat", ".4g"),
    Column("accuracy", "At the gradient's layer", "share", ".3f"),
    Column("logprob", "Mean log p of the target", "nats", ".3f"),
)
UNRELATED = (
    Column("steered", "What is done to every token of a plain text"),
    Column("loss", "Mean −log p", "nats a token", ".4f"),
    Column("perplexity", "exp of it", "", ".4g"),
)
IDENTITY = 1e-6  # nats: patching a state with itself, in the same arithmetic


def read(
    lab: "Lab", file: "File", *, train: int, test: int | None, shots: int, seed: int, mode: "Mode"
) -> Reading:
    """The task of a file, measured."""
    every = _pairs.pairs(file)
    measured = _task.measure(
        lab, *_pairs.split(every, train, test, seed), shots=min(shots, train - 1), seed=seed
    )
    losses = _unrelated.losses(
        lab,
        {
            method: _unrelated.Steered(
                choice.layer,
                lambda states, m=method, c=choice: measured.vectors.shifts(m, c.layer, c.strength, states),  # type: ignore[misc]
            )
            for method, choice in measured.choices.items()
        },
    )
    table = _arms(measured)
    verdicts = _against(measured)
    several = sum(item.length > 1 for item in measured.items)
    return Reading(
        findings=[_finding(file.name, measured), *_verdicts(verdicts)],
        tables=[
            Table("task", f"{file.name}: {len(measured.items)} items that were held out", TASK, table),
            Table("against", "Against controls of equal norm", AGAINST, verdicts),
            Table("task_layers", "Each layer, at its best strength", LAYERS, _layers(measured), detail=True),
            Table("task_strength", "The gradient form at several strengths", STRENGTH, _strengths(measured)),
            Table(
                "unrelated",
                "A text that has nothing to do with the task, every token steered",
                UNRELATED,
                [(name, loss, float(np.exp(loss))) for name, loss in losses.items()],
            ),
        ],
        figures=[_by_layer(measured), _by_strength(measured)],
        checks=_checks(measured),
        steering=_steering(lab, measured, mode),
        notes=[
            f"Vectors from {measured.fitted_on} training items, layer and strength chosen on "
            f"{measured.chosen_on} others by mean log p; {len(every)} different inputs in all. No target of "
            "a held-out item steers.",
            _pairs.LEADING,
            f"Only the target's first token counts: {several} of {len(measured.items)} targets have several.",
            "Task vector (Hendel): the mean prompted state in place of the item's own. Mean difference "
            "(CAA): mean prompted less mean bare state, added. Gradient: γ·sim(h, h_task)·mean gradient of "
            "the bare items.",
        ],
    )  # fmt: skip


def _steering(lab: "Lab", measured: Measured, mode: "Mode") -> "Steering":
    """What was chosen, to be used: the gradient form, or the mean difference for every token."""
    import torch

    from thermoscope.engine.steering import Steering

    method: Method = "gradient" if mode == "card" else "mean difference"
    layer, strength, _ = measured.choices[method]
    vectors, config = measured.vectors, lab.model.config
    about = (lab.model.name, config.family, config.layers)
    task = torch.from_numpy(vectors.task[layer])
    if mode == "card":
        gradient = torch.from_numpy(vectors.gradient[layer])
        return Steering(*about, {layer: gradient}, {layer: task}, strength * vectors.unit(layer))
    return Steering(*about, {layer: strength * (task - torch.from_numpy(vectors.bare[layer]))})


def _arms(measured: Measured) -> list[tuple[Cell, ...]]:
    bare = measured.arms["bare"]
    rows: list[tuple[Cell, ...]] = []
    for name, arm in measured.arms.items():
        choice = next((each for method, each in measured.choices.items() if name.startswith(method)), None)
        gain, gain_ends = _task.gain(measured, arm)
        kl, kl_ends = _task.recovered(measured, arm)
        rows.append(
            (
                name, choice and choice.layer, choice and choice.strength, float(arm.right.mean()),
                float(arm.logprob.mean()), gain, *(gain_ends or (None, None)), kl, *(kl_ends or (None, None)),
                float((arm.logprob < bare.logprob).mean()),
            )
        )  # fmt: skip
    return rows


def _against(measured: Measured) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for method in METHODS:
        for control in CONTROLS:
            share, ends = _task.gain(measured, measured.arms[method], measured.arms[f"{method}, {control}"])
            found = ends is not None and ends[0] > 0
            rows.append(
                (method, control, share, *(ends or (None, None)), "more" if found else "no effect found")
            )
    return rows


def _layers(measured: Measured) -> list[tuple[Cell, ...]]:
    from thermoscope.laws.steering import similarity

    return [
        (
            layer,
            *(float(measured.by_layer[method][layer].right.mean()) for method in METHODS),
            float(np.mean(similarity(measured.states[layer], measured.vectors.task[layer]))),
        )
        for layer in sorted(measured.by_layer["gradient"])
    ]


def _strengths(measured: Measured) -> list[tuple[Cell, ...]]:
    unit = measured.vectors.unit(measured.choices["gradient"].layer)
    return [
        (strength, strength * unit, float(arm.right.mean()), float(arm.logprob.mean()))
        for strength, arm in sorted(measured.by_strength.items())
    ]


def _finding(name: str, measured: Measured) -> str:
    bare, prompted = (measured.arms[each].right.mean() for each in ("bare", "prompted"))
    gained = _task.gain(measured, measured.arms["prompted"])[1]
    if gained is None:
        return (
            f"{name}: {bare:.1%} right without demonstrations and {prompted:.1%} with them: no effect found."
        )
    steered = ", ".join(
        f"{measured.arms[method].right.mean():.1%} by the {method} at layer {measured.choices[method].layer}"
        for method in METHODS
    )
    return f"{name}: {bare:.1%} right without demonstrations, {prompted:.1%} with them; {steered}."


def _verdicts(rows: list[tuple[Cell, ...]]) -> list[str]:
    found = []
    for method in METHODS:
        covered = [str(row[1]) for row in rows if row[0] == method and row[-1] != "more"]
        said = (
            f"no effect found beyond {' and '.join(covered)} of equal norm"
            if covered
            else "more than both controls"
        )
        found.append(f"{method[0].upper()}{method[1:]}: {said}.")
    return found


def _checks(measured: Measured) -> list[Check]:
    bare = measured.arms["bare"].logprob
    still = measured.by_strength[0.0].logprob
    item = measured.arms["prompted"].kl
    assert item is not None
    return [
        Check(
            "a shift of 0 changes nothing",
            "largest change of log p, patched with the state that was there, over all held-out items",
            float(np.abs(still - bare).max()),
            IDENTITY,
        ),
        Check(
            "KL(prompted‖prompted) = 0",
            "the prompt against itself, kept in float32, largest over all held-out items",
            float(item.max()),
            1e-5,
        ),
    ]


def _by_layer(measured: Measured) -> Figure:
    ends: list[Method] = list(METHODS)
    layers = sorted(measured.by_layer["gradient"])
    lines = [
        line(layers, [float(measured.by_layer[m][layer].right.mean()) for layer in layers], m) for m in ends
    ]
    for name, dash in (("prompted", "dash"), ("bare", "dot")):
        level = float(measured.arms[name].right.mean())
        lines.append(line([layers[0], layers[-1]], [level, level], name, line={"dash": dash}))
    title = "How many held-out items does one vector get right, layer by layer?"
    return Figure("task_layers", title, lines, axes("layer", "share of items that are right"))


def _by_strength(measured: Measured) -> Figure:
    strengths = sorted(measured.by_strength)
    arms = [measured.by_strength[strength] for strength in strengths]
    return Figure(
        "task_strength",
        f"The gradient form at layer {measured.choices['gradient'].layer}: how strong is best?",
        [line(strengths, [float(arm.logprob.mean()) for arm in arms], "mean log p", mode="lines+markers")],
        axes("‖β∇‖ / length of the mean state", "log p of the target, nats"),
    )
