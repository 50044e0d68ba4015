"""How far each precision's distributions are from fp32's on real text: mean KL, and top-1 agreement.

KL(p_fp32 ‖ p) in nats a token, teacher-forced, the text in windows that start with nothing before them.
"""

import json
from pathlib import Path
from typing import NamedTuple

WINDOW = 500  # tokens


class Distance(NamedTuple):
    """Means over the text's tokens."""

    kl: float
    agreement: float
    tokens: int


def read_text(path: Path) -> str:
    """A file's text; of JSON lines, the strings in them."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".jsonl":
        return text
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return "\n".join(value for row in rows for value in row.values() if isinstance(value, str))


class Quality:
    """Compares precisions in one process, fp32's log-probabilities in hand."""

    def __init__(self, model: str, threads: int, text: str, tokens: int) -> None:
        import torch

        from thermoscope.models.model import Model

        torch.set_num_threads(threads)
        self._model = model
        reference = Model.load(model, precision="fp32")
        ids = list(reference.tokenizer.encode(text))[:tokens]
        self._windows = [ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW)]
        self._expected = [self._logprobs(reference, window) for window in self._windows]

    def distance(self, *, precision: str) -> Distance:
        from thermoscope.models.model import Model

        model, kl, agreed, count = Model.load(self._model, precision=precision), 0.0, 0, 0
        for window, expected in zip(self._windows, self._expected, strict=True):
            got = self._logprobs(model, window)
            kl += float((expected.exp() * (expected - got)).sum())
            agreed += int((expected.argmax(-1) == got.argmax(-1)).sum())
            count += len(window)
        return Distance(kl / count, agreed / count, count)

    @staticmethod
    def _logprobs(model, tokens):
        from thermoscope.engine.replay import replay

        return replay(model, tokens, logits=True).logits.double().log_softmax(-1)
