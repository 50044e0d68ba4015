"""The rounds of `thermoscope bench`: every case, ours and the peers', in turn, again and again."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from thermoscope.bench import llama, measure
from thermoscope.bench.bandwidth import cache_bytes, weight_bytes
from thermoscope.bench.peers import Speeds, Transformers, Worker
from thermoscope.bench.report import Decode, Prefill, Report, Run
from thermoscope.engine.language_model import LanguageModel
from thermoscope.errors import InvalidRequest
from thermoscope.models.adapter import Adapter
from thermoscope.models.kernels.bandwidth import Bandwidth, read_bandwidth

Said = Callable[[str], None]


class Peers:
    """llama.cpp and `transformers` on the same file; either may be missing, and `missing` says why."""

    def __init__(self, path: Path, threads: int, said: Said) -> None:
        from importlib.util import find_spec

        self.path, self.threads = path, threads
        self.missing: list[str] = []
        self.llama = llama.find() if path.suffix == ".gguf" else None
        if self.llama is None:
            self.missing.append(
                f"llama.cpp: not found; name its folder in {llama.FOLDER}."
                if path.suffix == ".gguf"
                else "llama.cpp: it reads .gguf files only."
            )
        self.transformers: Worker | None = None
        if find_spec("transformers"):
            said("loading transformers")
            self.transformers = Worker(Transformers, str(path), threads)
        else:
            self.missing.append("transformers: not installed here.")

    def decode(self, case: Decode, prompts: list[tuple[int, ...]]) -> dict[str, float]:
        """Tokens a second of decoding, all answers together."""
        found: dict[str, float] = {}
        if self.llama:
            shape = {"depth": case.depth, "tokens": case.tokens, "threads": self.threads}
            found["llama.cpp"] = (
                llama.decode(self.llama, self.path, **shape)
                if case.batch == 1
                else llama.batched(self.llama, self.path, batch=case.batch, **shape)
            )
        if self.transformers:
            speeds: Speeds = self.transformers.ask("decode", prompts=prompts, tokens=case.tokens)
            found["transformers"] = speeds.decode
        return found

    def prefill(self, prompt: tuple[int, ...]) -> dict[str, float]:
        """Tokens of a prompt a second."""
        found: dict[str, float] = {}
        if self.llama:
            found["llama.cpp"] = llama.prefill(
                self.llama, self.path, prompt=len(prompt), threads=self.threads
            )
        if self.transformers:
            speeds: Speeds = self.transformers.ask("decode", prompts=[prompt], tokens=1)
            found["transformers"] = speeds.prefill
        return found

    def close(self) -> None:
        """End what runs."""
        if self.transformers:
            self.transformers.close()


def begin(
    lm: LanguageModel, *, prompts: list[int], cases: list[tuple[int, int, int]], threads: int
) -> Report:
    """A report without figures yet; `cases` are (batch, depth, tokens)."""
    decoder = lm.model.decoder
    if isinstance(decoder, Adapter):
        raise InvalidRequest(f"{lm.name}: got a model that transformers runs, expected one that runs here.")
    kind = decoder.cache_type
    decodes = [
        Decode(batch, depth, tokens, batch * cache_bytes(lm.config, kind, max(depth, 1) + tokens // 2))
        for batch, depth, tokens in cases
    ]
    about = {"model": lm.name, "precision": lm.precision, "threads": threads, "native": lm.model.native}
    return Report(
        about,
        [_read(lm, threads)],
        weight_bytes(decoder),
        [Prefill(each) for each in prompts],
        decodes,
    )


def run(lm: LanguageModel, report: Report, rounds: int, peers: Peers | None, said: Said) -> None:
    """Fill the report; after Ctrl-C it holds what was measured, and says so."""
    try:
        texts = [measure.prompt(lm, each.prompt) for each in report.prefills]
        asked = [
            [measure.prompt(lm, max(case.depth, 1), client=client) for client in range(case.batch)]
            for case in report.decodes
        ]
        said("warming up")
        measure.decode(lm, [prompt[:8] for prompt in asked[0]], 2)
        for number in range(1, rounds + 1):
            if number > 1:  # memory is shared with other machines on the same host, and its speed changes
                report.bandwidths.append(_read(lm, report.about["threads"]))
            for each, text in zip(report.prefills, texts, strict=True):
                said(f"round {number}: prefill of {each.prompt}")
                each.runs.append(measure.prefill(lm, text))
                _add(each.peers, peers.prefill(text) if peers else {})
            for case, prompts in zip(report.decodes, asked, strict=True):
                said(f"round {number}: {case.batch} at once after {case.depth}")
                done = measure.decode(lm, prompts, case.tokens, even=True)
                case.runs.append(Run(done.rate, done.step))
                _add(case.peers, peers.decode(case, prompts) if peers else {})
    except KeyboardInterrupt:
        report.interrupted = True


def _read(lm: LanguageModel, threads: int) -> Bandwidth:
    return lm.runner.call(partial(read_bandwidth, threads))


def _add(peers: dict[str, list[float]], found: dict[str, float]) -> None:
    for name, speed in found.items():
        peers.setdefault(name, []).append(speed)
