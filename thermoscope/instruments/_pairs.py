"""A task as pairs of an input and its output, split into what is fitted on and what is judged by."""

import json
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.seam import shared

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.instruments.shape.source import File

ASK, ANSWER = "{} ->", " {}\n"  # the form of Hendel et al. 2023
LEAD = "\n"
LEADING = (
    "Every text, with the prompt and without, begins with a line end: models park attention on the first "
    "token, and would read little of a word there."
)
LEAST = 8  # items to fit on, half of them for the vectors and half for layer and strength


class Pair(NamedTuple):
    """What is asked, and what should come."""

    input: str
    output: str


class Item(NamedTuple):
    """A pair as tokens: alone, after demonstrations, and after the same with their outputs exchanged.

    `target` is the first token of the output, of which there are `length`.
    """

    bare: tuple[int, ...]
    prompted: tuple[int, ...]
    shuffled: tuple[int, ...]
    target: int
    length: int


def pairs(file: "File") -> list[Pair]:
    """A JSON list of objects with `input` and `output`, or one such object a line; each input once.

    **Errors:** `InvalidRequest` for anything else.
    """
    text = file.text.strip()
    try:
        listed = (
            json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
        )
        found = [_pair(each) for each in listed]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InvalidRequest(
            f"task: got {file.name}, expected a JSON list of objects with input and output, both texts.",
            param="task",
        ) from None
    once: dict[str, Pair] = {}
    for pair in found:
        once.setdefault(pair.input, pair)
    if not once:
        raise InvalidRequest(f"task: got {file.name} without a pair, expected some.", param="task")
    return list(once.values())


def split(every: Sequence[Pair], train: int, test: int | None, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Some to fit on and others to judge by, shuffled; None takes all that are left, 200 at most.

    **Errors:** `InvalidRequest` where there are too few.
    """
    left = len(every) - train
    if left < (test or 1):
        raise InvalidRequest(
            f"train: got {train} items to fit on{f' and {test} to judge by' if test else ''}, but the task "
            f"has {len(every)} different inputs; ask for fewer.",
            param="train",
        )
    mixed = random.Random(seed).sample(list(every), len(every))
    return mixed[:train], mixed[train : train + (test or min(left, 200))]


def items(lab: "Lab", asked: Sequence[Pair], known: Sequence[Pair], shots: int, seed: int) -> list[Item]:
    """Pairs as tokens, each after its own draw of `shots` demonstrations from `known`, never itself."""
    dice = random.Random(seed)
    found = []
    for pair in asked:
        drawn = dice.sample([each for each in known if each != pair], shots)
        turned = [each.output for each in drawn[1:] + drawn[:1]]
        exchanged = [Pair(each.input, output) for each, output in zip(drawn, turned, strict=True)]
        bare, target = tokens(lab, pair)
        prompted, shuffled = (tokens(lab, pair, each)[0] for each in (drawn, exchanged))
        found.append(Item(bare, prompted, shuffled, target[0], len(target)))
    return found


def tokens(
    lab: "Lab", pair: Pair, demonstrations: Sequence[Pair] = ()
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A question after demonstrations, and the tokens of its output there."""
    text = LEAD + "".join(ASK.format(each.input) + ANSWER.format(each.output) for each in demonstrations)
    text += ASK.format(pair.input)
    tokenizer = lab.model.tokenizer
    asked = tokenizer.prompt(text)
    whole = tokenizer.prompt(text + ANSWER.format(pair.output).rstrip("\n"))
    seam = shared(asked, whole)
    if len(whole) > lab.model.context:
        raise InvalidRequest(
            f"task: got {len(whole)} tokens of {len(demonstrations)} demonstrations and a question, expected "
            f"at most {lab.model.context}, the context; ask for fewer shots.",
            param="task",
        )
    return tuple(whole[:seam]), tuple(whole[seam:])


def _pair(plain: Any) -> Pair:
    pair = Pair(plain["input"], plain["output"])
    if not all(isinstance(text, str) and text.strip() for text in pair):
        raise TypeError
    return pair
