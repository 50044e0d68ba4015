"""A chain of thought with its question and its answer, as one sequence of tokens in known parts."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thermoscope.errors import InvalidRequest
from thermoscope.instruments._steps import Step, steps
from thermoscope.instruments.shape.seam import shared

if TYPE_CHECKING:
    from thermoscope.engine.trace import Trace
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.instruments.shape.source import File

Tokens = tuple[int, ...]

MARK = re.compile(rb"\s*####")  # GSM8K's, before the answer
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
CONTENT_FREE = "N/A"  # stands where a question would: Zhao et al. 2021


@dataclass(frozen=True)
class Chain:
    """Prompt, steps, cue and answer.

    - `prompt`: token ids of the question. `steps`: the spans of the reasoning, which follow it.
    - `cue`, `answer`: token ids of the words that ask for the answer, and of the answer itself.
    - `said`: the answer's text. `bare`: token ids of the prompt without its question.
    - `trace`: where the model spoke itself.
    """

    prompt: Tokens
    reasoning: Tokens
    steps: Sequence[Step]
    cue: Tokens
    answer: Tokens
    said: str
    bare: Tokens
    trace: "Trace | None" = None

    @property
    def tokens(self) -> Tokens:
        """All of it, in order."""
        return (*self.prompt, *self.reasoning, *self.cue, *self.answer)

    @property
    def asked(self) -> int:
        """The index of the cue's first token: where the reasoning ends."""
        return len(self.prompt) + len(self.reasoning)

    @property
    def tail(self) -> Tokens:
        """Cue and answer, which follow any form of the reasoning."""
        return (*self.cue, *self.answer)

    def states(self, step: Step) -> bool:
        """Whether a step says the answer, which then can be read off it."""
        found = re.search(rf"(?<![\d.,]){re.escape(self.said.strip())}(?![\d,]|\.\d)", step.text)
        return found is not None


def spoken(lab: "Lab", prompt: Tokens, bare: Tokens, cue: str, answer: str | None, trace: "Trace") -> Chain:
    """The chain of a finished answer of this model."""
    tokens, tokenizer = list(trace.tokens), lab.model.tokenizer
    while tokens and not tokenizer.bytes_of(tokens[-1]).strip():
        tokens.pop()
    return chained(lab, prompt, tuple(tokens), bare, cue, answer, trace)


def chained(
    lab: "Lab",
    prompt: Tokens,
    reasoning: Tokens,
    bare: Tokens,
    cue: str,
    answer: str | None,
    trace: "Trace | None" = None,
) -> Chain:
    """Prompt and reasoning, cut before GSM8K's mark of the answer, with cue and answer behind.

    `answer`: None takes what stands behind that mark, or the last number of the reasoning.

    **Errors:** `InvalidRequest` for a reasoning without a step or an answer, or longer than the context.
    """
    tokenizer = lab.model.tokenizer
    spelled = [tokenizer.bytes_of(token) for token in reasoning]
    text = b"".join(spelled)
    said = answer if answer is not None else _answer(text)
    mark = MARK.search(text)
    if mark:
        kept, at = 0, 0
        while at + len(spelled[kept]) <= mark.start():
            at += len(spelled[kept])
            kept += 1
        reasoning = reasoning[:kept]
    found = steps((*prompt, *reasoning), len(prompt), tokenizer.bytes_of)
    if not any(step.text for step in found):
        raise InvalidRequest(
            f"reasoning: got {text[:60].decode('utf-8', 'replace')!r}, expected at least one step before the "
            "answer.",
            param="solution",
        )
    if not said.strip():
        raise InvalidRequest("answer: got only white space, expected some text.", param="answer")
    said = said if said[:1].isspace() else f" {said}"
    asking, whole = tokenizer.encode(cue), tokenizer.encode(cue + said)
    seam = shared(asking, whole)
    chain = Chain(
        prompt, reasoning, found, tuple(whole[:seam]), tuple(whole[seam:]), said.strip(), bare, trace
    )
    if not chain.answer or not seam:
        part = "cue" if not seam else "answer"
        raise InvalidRequest(f"{part}: got no token of its own, expected some text.", param=part)
    if len(chain.tokens) > lab.model.context:
        raise InvalidRequest(
            f"prompt: got {len(chain.tokens)} tokens with its reasoning and the answer, expected at most "
            f"{lab.model.context}, the context.",
            param="prompt",
        )
    return chain


def opened(lab: "Lab", file: "File") -> "Trace":
    """A saved trace of this model.

    **Errors:** `InvalidRequest` for a file that is none, of another model or precision, or steered.
    """
    from thermoscope.engine.trace import Trace

    try:
        trace = Trace.from_dict(json.loads(file.text))
    except InvalidRequest as error:
        raise InvalidRequest(str(error), param="trace") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(
            f"trace: got {file.name}, which is none ({type(error).__name__}: {error}), expected what "
            "`thermoscope run --trace` saved.",
            param="trace",
        ) from None
    running = {"model": lab.model.name, "precision": lab.model.precision}
    for what, here in running.items():
        if (got := getattr(trace, what)) != here:
            raise InvalidRequest(
                f"trace: got one of {what} {got}, expected {here}, which runs; load {got} to look at it.",
                param="trace",
            )
    if trace.steered is not None:
        raise InvalidRequest(
            f"trace: got one that was steered (by {trace.steered}), expected a plain answer: a look at it "
            "without the vector would show another model than spoke.",
            param="trace",
        )
    vocab = lab.model.config.vocab
    for each in (*trace.prompt, *trace.tokens):
        if type(each) is not int or not 0 <= each < vocab:
            raise InvalidRequest(f"trace: got token id {each!r}, expected 0 to {vocab - 1}.", param="trace")
    if not trace.prompt or not trace.steps:
        what = "answer" if trace.prompt else "prompt"
        raise InvalidRequest(f"trace: got an empty {what}, expected some tokens.", param="trace")
    return trace


def _answer(text: bytes) -> str:
    """What a reasoning itself gives as its answer."""
    words = text.decode("utf-8", "replace")
    before, mark, after = words.partition("####")
    if mark and after.split():
        return after.split()[0]
    numbers: list[str] = _NUMBER.findall(before)
    if not numbers:
        raise InvalidRequest(
            "answer: got none, and no number stands in the reasoning; give the answer that is to be read.",
            param="answer",
        )
    return numbers[-1].rstrip(",")
