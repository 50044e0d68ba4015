"""The steps of a chain of thought: its sentences and lines, as spans of tokens that cover it exactly."""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

# Bytes, for a token may hold half of a character.
_LINE = rb"\s*\n\s*"
_END = re.compile(rb"""[.!?]+["')\]]*(?=\s)|(?:%s)+|""" % "|".join("。！？").encode() + _LINE)
# A full stop that ends no sentence: that of a list's number, an initial or a title.
_GOES_ON = re.compile(rb"(?:(?:^|\n)\s*\d+|\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|St|vs|etc|e\.g|i\.e|approx))\.$")
_SAYS = re.compile(rb"[0-9A-Za-z\x80-\xff]")


@dataclass(frozen=True)
class Step:
    """`first`, `end`: its tokens, [first, end), by their index in the sequence. `text`: what it says."""

    first: int
    end: int
    text: str

    @property
    def tokens(self) -> range:
        """Where its tokens stand."""
        return range(self.first, self.end)


def steps(tokens: Sequence[int], first: int, bytes_of: Callable[[int], bytes]) -> list[Step]:
    """The steps of `tokens` from index `first` on; every token is in one of them.

    White space belongs to what follows it, as most tokenizers have it; a token that spans two steps, to the
    one that it begins in. What says nothing, as a line of dashes, belongs to the step before.
    """
    spelled = [bytes_of(token) for token in tokens[first:]]
    starts = accumulate(map(len, spelled), initial=0)
    cuts = _cuts(b"".join(spelled))
    numbers = [bisect_right(cuts, start) for start, _ in zip(starts, spelled, strict=False)]
    found: list[list[int]] = []  # first and end, counted from `first`
    speaks = False
    for _, group in groupby(range(len(spelled)), numbers.__getitem__):
        members = list(group)
        says = bool(_SAYS.search(b"".join(spelled[members[0] : members[-1] + 1])))
        if found and not (says and speaks):
            found[-1][1] = members[-1] + 1
        else:
            found.append([members[0], members[-1] + 1])
        speaks = speaks or says
    return [
        Step(first + start, first + end, b"".join(spelled[start:end]).decode("utf-8", "replace").strip())
        for start, end in found
    ]


def _cuts(text: bytes) -> list[int]:
    """Where steps begin, beside the first: behind a sentence's end, before the white space of a line's."""
    cuts = []
    for match in _END.finditer(text):
        if match[0].isspace():
            cuts.append(match.start())
        elif not _GOES_ON.search(text, 0, match.end()):
            cuts.append(match.end())
    return cuts
