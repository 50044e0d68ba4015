"""Log-probabilities in the older form: four lists that run side by side, one entry for each token."""

import codecs
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from thermoscope.server.logprobs import Named, best_of, written

if TYPE_CHECKING:
    from thermoscope.engine.scores import Score
    from thermoscope.engine.trace import Step
    from thermoscope.models.tokenizer import Tokenizer


class Entry(NamedTuple):
    """One token: its log-probability (None where nothing stands before it), what else was probable, and how
    many characters of the text it completes.
    """

    token: int
    logprob: float | None
    best: Named
    length: int


def of_prompt(tokenizer: "Tokenizer", scored: "Iterable[Score]") -> Iterator[Entry]:
    """The tokens of a prompt that is echoed."""
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    for score in scored:
        length = len(decode(tokenizer.bytes_of(score.token)))
        yield Entry(score.token, score.logprob, score.best, length)


def of_steps(steps: "Iterable[Step]", count: int) -> Iterator[Entry]:
    """The tokens of an answer, its end token, too: a list that is counted by token misses none."""
    for step in steps:
        assert step.record is not None  # engine_requests asks for records wherever logprobs are wanted
        yield Entry(step.token, step.record.logprob, best_of(step, count), len(step.text))


def legacy(tokenizer: "Tokenizer", entries: Iterable[Entry], start: int = 0) -> dict[str, list[Any]]:
    """The four lists.

    - `tokens`: texts; of a token that is no whole text, `bytes:` and its bytes. `token_logprobs`: theirs.
    - `top_logprobs`: for each, the most probable tokens and the token itself, by text. Where two spell the
      same, the more probable one stands.
    - `text_offset`: where each begins in the text that is sent, in characters. `start`: the first one's.
    """
    lists: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for entry in entries:
        named: dict[str, float] | None = None
        if entry.logprob is not None:
            named = {}
            for token, logprob in (*entry.best, (entry.token, entry.logprob)):
                named.setdefault(_spelled(tokenizer, token), written(logprob))
        lists["tokens"].append(_spelled(tokenizer, entry.token))
        lists["token_logprobs"].append(None if entry.logprob is None else written(entry.logprob))
        lists["top_logprobs"].append(named)
        lists["text_offset"].append(start)
        start += entry.length
    return lists


def _spelled(tokenizer: "Tokenizer", token: int) -> str:
    data = tokenizer.bytes_of(token)
    try:
        return data.decode() or tokenizer.piece(token)
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
