"""The engine's draws against the law: chi-square over the default model's own contexts.

Every draw goes through the engine's sampler. What it should draw comes from sorting and summing all logits
here, in numpy alone. On other logits than those seen so far (another processor's kernel), a right sampler
fails one run of the five settings in two hundred.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from tests.prompts import PROMPTS
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Sampling
from thermoscope.engine.sampler import ALTERNATIVES, Sampler
from thermoscope.models.distribution import summarise
from thermoscope.models.kernels.native import cores
from thermoscope.models.model import Model

Vector = np.ndarray
LEAST = 10  # expected draws of a bin at least; rarer tokens share one


@dataclass
class Case:
    """Settings, and the law that they should follow: from logits and the context's tokens."""

    settings: dict[str, Any]
    law: Callable[[Vector, Vector], Vector]

    @property
    def temperature(self) -> float:
        return 1.0 if self.settings.get("profile") == "llama.cpp" else self.settings.get("temperature", 1.0)


def softmax(z: Vector, temperature: float = 1.0) -> Vector:
    p = np.exp((z - z.max()) / temperature)
    return p / p.sum()


def only(p: Vector, ids: Vector) -> Vector:
    """What is left of p where only some tokens may be drawn."""
    q = np.zeros_like(p)
    q[ids] = p[ids]
    return q / q.sum()


def heads(p: Vector, keys: Vector, share: float) -> Vector:
    """Ids in the order of rising keys, until they hold a share of p."""
    order = np.argsort(keys, kind="stable")
    return order[: int((np.cumsum(p[order]) < share).sum()) + 1]


def entropy(p: Vector) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def plain(z: Vector, tokens: Vector, temperature: float = 1.0) -> Vector:
    return softmax(z, temperature)


def cold_nucleus(z: Vector, tokens: Vector) -> Vector:
    p = softmax(z, 0.7)
    return only(p, heads(p, -p, 0.9))


def typical_with_penalty(z: Vector, tokens: Vector) -> Vector:
    z = z.copy()
    for token in set(tokens.tolist()):
        z[token] = z[token] / 1.3 if z[token] > 0 else z[token] * 1.3
    p = softmax(z, 1.5)
    return only(p, heads(p, np.abs(-np.log(p) - entropy(p)), 0.9))


def llama_defaults_with_dynamic_temperature(z: Vector, tokens: Vector) -> Vector:
    p = softmax(z)
    p = only(p, np.argsort(-z, kind="stable")[:40])
    p = only(p, heads(p, -p, 0.95))
    p = only(p, np.flatnonzero(p >= 0.05 * p.max()))
    left = np.flatnonzero(p)
    share = entropy(p) / np.log(len(left)) if len(left) > 1 else 0.0
    q = np.zeros_like(p)
    q[left] = softmax(z[left], 0.3 + 1.0 * share) if len(left) > 1 else 1.0
    return q


def half_of_the_time_without_the_top_choices(z: Vector, tokens: Vector) -> Vector:
    p = softmax(z, 1.2)
    p = only(p, np.flatnonzero(z >= z.max() - 3 * z.std()))
    eta = min(1e-3, np.sqrt(1e-3) * np.exp(-entropy(p)))
    p = only(p, np.flatnonzero(p >= min(eta, p.max())))
    top = np.flatnonzero(p >= 0.1)
    top = top[np.argsort(-p[top], kind="stable")][:-1]
    return 0.5 * p + 0.5 * only(p, np.setdiff1d(np.flatnonzero(p), top))


CASES = {
    "plain": Case({}, plain),
    "T and nucleus": Case({"temperature": 0.7, "top_p": 0.9}, cold_nucleus),
    "penalty, T, typical": Case(
        {"temperature": 1.5, "typical_p": 0.9, "repetition_penalty": 1.3}, typical_with_penalty
    ),
    "llama.cpp's defaults, dynamic T": Case(
        {
            "profile": "llama.cpp",
            "temperature": 0.8,
            "dynatemp_range": 0.5,
            "top_k": 40,
            "top_p": 0.95,
            "min_p": 0.05,
        },
        llama_defaults_with_dynamic_temperature,
    ),
    "top-n-sigma, eta, XTC": Case(
        {"temperature": 1.2, "top_n_sigma": 3.0, "eta": 1e-3, "xtc_probability": 0.5},
        half_of_the_time_without_the_top_choices,
    ),
}


@pytest.fixture(scope="module")
def contexts(smollm2) -> Iterator[list[tuple[Vector, Vector]]]:
    """Tokens and the logits after them: each prompt whole, and cut at a third and at two thirds; fifty."""
    model = Model.load(str(smollm2))
    model.run_on(1)  # a draw is too short for several threads where other work goes on
    found = []
    for prompt in PROMPTS:
        tokens = np.array(model.tokenizer.chat([{"role": "user", "content": prompt}]))
        logits = replay(model, tokens.tolist(), logits=True).logits.numpy()
        for length in (len(tokens), len(tokens) // 3, 2 * len(tokens) // 3):
            found.append((tokens[:length], logits[length - 1]))
    yield found[:50]
    model.run_on(cores())


def p_value(counts: Vector, p: Vector) -> float:
    """Of Pearson's chi-square; rare tokens in one bin, and none that cannot be drawn."""
    expected = counts.sum() * p
    assert (counts[p == 0] == 0).all()
    often = expected >= LEAST
    expected = np.append(expected[often], expected[~often].sum())
    seen = np.append(counts[often], counts[~often].sum())
    if expected[-1] < LEAST and len(expected) > 1:  # too rare even together: with the rarest that is not
        least = expected[:-1].argmin()
        expected[least] += expected[-1]
        seen[least] += seen[-1]
        expected, seen = expected[:-1], seen[:-1]
    if len(expected) == 1:
        return 1.0
    statistic = float(((seen - expected) ** 2 / expected).sum())
    half = torch.tensor([(len(expected) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def least_p(case: Case, contexts: list[tuple[Vector, Vector]], draws: int) -> float:
    """The least p-value over the contexts, times their number: Holm's correction of the least."""
    found = []
    for number, (tokens, row) in enumerate(contexts):
        summary = summarise(torch.from_numpy(row)[None], [case.temperature], best=ALTERNATIVES)[0]
        counts = np.zeros(len(row))
        sampling, prompt = Sampling(**case.settings), tuple(tokens.tolist())
        for draw in range(draws):
            # An answer's first token each time, so that no draw is penalised for the one before.
            sampler = Sampler(sampling, seed=number * draws + draw, choice=0, prompt=prompt)
            counts[sampler.draw(row, 0, None, summary)[0]] += 1
        found.append(p_value(counts, case.law(row.astype(np.float64), tokens)))
    return min(found) * len(found)


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_law_in_five_contexts(contexts, name):
    assert least_p(CASES[name], contexts[::10], 4_000) > 0.001


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_law_in_fifty_contexts(contexts, name):
    assert len(contexts) == 50
    assert least_p(CASES[name], contexts, 20_000) > 0.001


def test_a_wrong_law_is_found(contexts):
    """A temperature that is off by 5% does not pass, nor a draw of what should have been cut off."""
    assert least_p(Case({}, partial(plain, temperature=1.05)), contexts[::10], 4_000) < 0.001
    with pytest.raises(AssertionError):
        least_p(Case({}, cold_nucleus), contexts[:1], 100)
