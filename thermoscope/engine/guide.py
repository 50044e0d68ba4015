"""A grammar beside an answer while it is spoken: which tokens may come next, and whether it is complete.

`llguidance` does the parsing: it walks the vocabulary as a tree of bytes beside the grammar's automaton, in
some tens of microseconds a step, with the interpreter's lock released.
"""

import threading
from collections import OrderedDict

import llguidance
import numpy as np
from jaxtyping import Int

from thermoscope.engine.grammar import Grammar
from thermoscope.errors import InvalidRequest
from thermoscope.models.tokenizer import Tokenizer

KEPT = 64  # compiled grammars that are kept
STEP_FUEL = 50_000  # about 4 ms; a grammar that needs more in a step ends the answer with an error


class Guide:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self._matcher = matcher
        self._accepted = 0

    @property
    def complete(self) -> bool:
        """Whether the answer is all that it can be, so that only its end could follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> Int[np.ndarray, "allowed"]:
        """Ids that may come next, rising; the end tokens among them where the answer may end.

        **Errors:** `InvalidRequest` where no token may follow, or where to find out takes too long.
        """
        mask = self._matcher.compute_bitmask()
        self._check()
        ids = np.flatnonzero(np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little"))
        if not len(ids):
            raise self._failed("no token of the vocabulary may follow")
        return ids

    def accept(self, token: int) -> None:
        """The answer's next token, one of those that were allowed."""
        self._matcher.consume_token(token)
        self._accepted += 1
        self._check()

    def copy(self) -> "Guide":
        """Another answer that stands where this one does."""
        return Guide(self._matcher.deep_copy())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise self._failed(_line(self._matcher.get_error()))

    def _failed(self, reason: str) -> InvalidRequest:
        return InvalidRequest(
            f"grammar: got stuck after {self._accepted} tokens ({reason}), expected a grammar that the "
            "vocabulary can spell in little time; make it simpler.",
            param="grammar",
        )


class Guides:
    """Compiles grammars for one vocabulary, and keeps those used last. Safe from any thread.

    `vocab`: rows of the logits, of which those behind the tokenizer's last id are never allowed.
    """

    def __init__(self, tokenizer: Tokenizer, vocab: int) -> None:
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._words: llguidance.LLTokenizer | None = None
        self._kept: OrderedDict[Grammar, Guide] = OrderedDict()
        self._lock = threading.Lock()

    def guide(self, grammar: Grammar) -> Guide:
        """A guide at the grammar's beginning.

        **Errors:** `InvalidRequest` for a grammar that is wrong, too large, or not supported.
        """
        with self._lock:
            if grammar in self._kept:
                self._kept.move_to_end(grammar)
            else:
                self._kept[grammar] = self._compiled(grammar)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return self._kept[grammar].copy()

    def _compiled(self, grammar: Grammar) -> Guide:
        if self._words is None:
            tokenizer = self._tokenizer
            self._words = llguidance.LLTokenizer(
                tokenizer.core.to_str(), n_vocab=self._vocab, eos_token=sorted(tokenizer.end_ids)
            )
        limits = llguidance.LLParserLimits(
            step_lexer_fuel=STEP_FUEL, step_max_items=STEP_FUEL, verbose_errors=False
        )
        matcher = llguidance.LLMatcher(self._words, _text(grammar), log_level=0, limits=limits)
        if matcher.is_error():
            raise InvalidRequest(
                f"{grammar.kind}: got one that cannot be used ({_line(matcher.get_error())}), expected one "
                "that is supported; see the server's documentation.",
                param="grammar",
            )
        return Guide(matcher)


def _text(grammar: Grammar) -> str:
    if grammar.kind == "lark":
        return llguidance.LLMatcher.grammar_from_lark(grammar.source)
    if grammar.kind == "regex":
        return llguidance.LLMatcher.grammar_from_regex(grammar.source)
    # What models write: compact JSON, or Python's, with a space behind a comma and a colon; no run of spaces.
    return llguidance.LLMatcher.grammar_from_json_schema(
        grammar.source,
        overrides={"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"},
    )


def _line(text: str) -> str:
    return " ".join(text.replace("<non-verbose/>", "").split()).rstrip(" .|")
