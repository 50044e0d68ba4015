"""A grammar compiled in a process of its own first, which can be stopped: some take for ever, or all memory.

Forty patterns in an `allOf` are a kilobyte whose automaton has no end. No bound on a grammar's size finds
such, and a thread cannot be stopped.
"""

import atexit
import json
import resource
import signal
import subprocess
import sys
import threading

import llguidance

from thermoscope.engine.grammar import Grammar
from thermoscope.engine.json_schema import LAYOUT

SECONDS = 0.8  # of processor time: a machine with much to do must not refuse what an idle one takes
MEMORY = 2**30  # bytes of address space
STEP_FUEL = 50_000  # about 4 ms; a grammar that needs more in a step ends the answer with an error
STEPS = 12  # into a grammar, to see that they are as cheap
PROGRAM = "from thermoscope.engine.trial import child; child()"


class Trial:
    """Says of grammars whether they can be compiled. Safe from any thread; they wait for one another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def reason(self, grammar: Grammar, vocab: int) -> str:
        """Why the grammar cannot be used with a vocabulary of that size; empty if it can."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = _start()
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps([vocab, grammar.kind, grammar.source]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            if line:
                return str(json.loads(line))
            self._process.communicate()
            return f"it takes more than {SECONDS} s of processor time or {MEMORY >> 20} MiB to compile"

    def close(self) -> None:
        """End the other process; the next grammar starts it again."""
        with self._lock:
            if self._process is not None:
                self._process.communicate()
                self._process = None


TRIAL = Trial()
atexit.register(TRIAL.close)


def matcher(words: llguidance.LLTokenizer, grammar: Grammar) -> llguidance.LLMatcher:
    """A grammar's automaton over a vocabulary, at its beginning."""
    make = llguidance.LLMatcher
    if grammar.kind == "lark":
        text = make.grammar_from_lark(grammar.source)
    elif grammar.kind == "regex":
        text = make.grammar_from_regex(grammar.source)
    else:
        text = make.grammar_from_json_schema(grammar.source, overrides=LAYOUT)
    limits = llguidance.LLParserLimits(
        step_lexer_fuel=STEP_FUEL, step_max_items=STEP_FUEL, verbose_errors=False
    )
    return make(words, text, log_level=0, limits=limits)


def error(of: llguidance.LLMatcher) -> str:
    """What is wrong with it, in one line; empty if nothing is."""
    reason = " ".join(of.get_error().replace("<non-verbose/>", "").split()).rstrip(" .|")
    return "nothing satisfies it" if reason.startswith("NoExtension") else reason


def child() -> None:
    """The other process: a grammar a line in, a reason a line out, until there is nobody to read."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    words: dict[int, llguidance.LLTokenizer] = {}
    for line in sys.stdin:
        vocab, *asked = json.loads(line)
        if vocab not in words:
            words[vocab] = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes(vocab)))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # whose end is the end of the process
        tried = matcher(words[vocab], Grammar(*asked))
        _walk(tried)
        reason = error(tried)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(reason), flush=True)


def _walk(tried: llguidance.LLMatcher) -> None:
    """Some steps into the grammar, each by the first byte that may follow."""
    for _ in range(STEPS):
        allowed = int.from_bytes(tried.compute_bitmask(), "little") >> 1  # 0 is the end
        if not allowed or tried.is_stopped():
            return
        tried.consume_token((allowed & -allowed).bit_length())


class _Bytes:
    """A vocabulary of bytes: how long a grammar takes does not depend on what the tokens are."""

    def __init__(self, size: int) -> None:
        self.tokens = [*(bytes([byte]) for byte in range(256)), *[b""] * (size - 256)]
        self.eos_token_id, self.bos_token_id = 0, None

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def _start() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, encoding="utf-8", start_new_session=True,
    )  # fmt: skip
