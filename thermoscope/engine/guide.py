"""A grammar beside an answer while it is spoken: which tokens may come next, and whether it is complete.

`llguidance` does the parsing: it walks the vocabulary as a tree of bytes beside the grammar's automaton, in
some tens of microseconds a step, with the interpreter's lock released.
"""

import threading
from collections import OrderedDict

import llguidance
import numpy as np
from jaxtyping import Int

from thermoscope.engine import trial
from thermoscope.engine.grammar import Grammar
from thermoscope.engine.vocabulary import vocabulary
from thermoscope.models.tokenizer import Tokenizer

KEPT = 64  # compiled grammars that are kept, and reasons why others were not


class Guide:
    """Where one answer stands in its grammar."""

    def __init__(self, grammar: Grammar, matcher: llguidance.LLMatcher) -> None:
        self._grammar = grammar
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
        self._check(len(ids) > 0)
        return ids

    def accept(self, token: int) -> None:
        """The answer's next token, one of those that were allowed."""
        self._matcher.consume_token(token)
        self._accepted += 1
        self._check()

    def copy(self) -> "Guide":
        """Another answer that stands where this one does."""
        return Guide(self._grammar, self._matcher.deep_copy())

    def _check(self, follows: bool = True) -> None:
        if self._matcher.is_error() or not follows:
            reason = trial.error(self._matcher) or "no token of the vocabulary may follow"
            raise self._grammar.refused(
                f"got stuck after {self._accepted} tokens ({reason}), expected a grammar that the vocabulary "
                "can spell in little time; make it simpler"
            )


class Guides:
    """Compiles grammars for one vocabulary, and keeps those used last. Safe from any thread.

    `vocab`: rows of the logits, of which those behind the tokenizer's last id are never allowed.
    """

    def __init__(self, tokenizer: Tokenizer, vocab: int) -> None:
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._words: llguidance.LLTokenizer | None = None
        self._kept: OrderedDict[Grammar, llguidance.LLMatcher | str] = OrderedDict()
        self._lock = threading.Lock()

    def guide(self, grammar: Grammar) -> Guide:
        """A guide at the grammar's beginning.

        **Errors:** `InvalidRequest` for a grammar that is wrong, too large, or not supported.
        """
        with self._lock:
            found = self._kept.get(grammar)
        if found is None:
            found = self._compiled(grammar)  # others need not wait for it
        with self._lock:
            self._kept[grammar] = found
            self._kept.move_to_end(grammar)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            if isinstance(found, str):
                raise grammar.refused(
                    f"got a {NAMES[grammar.kind]} that cannot be used ({found}), expected one that is "
                    "supported; docs/server.md says which are"
                )
            return Guide(grammar, found.deep_copy())

    def _compiled(self, grammar: Grammar) -> llguidance.LLMatcher | str:
        if reason := trial.TRIAL.reason(grammar, self._vocab):
            return reason
        if self._words is None:
            self._words = vocabulary(self._tokenizer, self._vocab)
        matcher = trial.matcher(self._words, grammar)
        return trial.error(matcher) or matcher


NAMES = {"json_schema": "JSON Schema", "lark": "grammar", "regex": "regular expression"}
