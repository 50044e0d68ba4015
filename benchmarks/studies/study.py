"""What both studies share: arguments, a run that can be stopped and gone on with, and the figure's file."""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import thermoscope
from benchmarks.studies.passages import Passage, passages
from benchmarks.studies.results import Key, Results
from benchmarks.studies.speaker import answers
from thermoscope.engine.language_model import DEFAULT, LanguageModel
from thermoscope.engine.request import Request
from thermoscope.engine.trace import Trace
from thermoscope.errors import ThermoscopeError
from thermoscope.instruments.shape import page

INTERRUPTED = 130  # what a shell gives for Ctrl-C


class Study:
    """One run: the model, the passages that it continues, and the rows found so far."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        sizes = {"prefix": arguments.prefix, "tokens": arguments.tokens}
        self.lm: LanguageModel = thermoscope.load(arguments.model, context=sum(sizes.values()))
        try:
            self.passages: list[Passage] = passages(
                arguments.text, self.lm.tokenizer, count=arguments.passages, **sizes
            )
            text = hashlib.sha256(arguments.text.read_bytes()).hexdigest()[:16]
            about = {"model": self.lm.name, "precision": self.lm.precision, "text": text, **sizes}
            self.about = {"study": name, **about}
            self.results = Results(arguments.results, self.about)
        except BaseException:
            self.lm.close()
            raise

    def close(self) -> None:
        self.results.close()
        self.lm.close()

    def ask(self, asked: Mapping[Key, Request], read: Callable[[Trace], dict[str, Any]]) -> None:
        """A row for every request's answer; `read` says what of an answer it holds."""

        def find(missing: Sequence[Key]) -> Iterator[tuple[Key, dict[str, Any]]]:
            for key, trace in answers(self.lm, {key: asked[key] for key in missing}):
                yield key, read(trace)

        self.fill(list(asked), find)

    def fill(
        self, keys: Sequence[Key], find: Callable[[Sequence[Key]], Iterator[tuple[Key, dict[str, Any]]]]
    ) -> None:
        """A row for every key that has none yet, as `find` gives them."""
        missing = [key for key in keys if key not in self.results.rows]
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("passages", total=len(keys), completed=len(keys) - len(missing))
            for (setting, passage), row in find(missing):
                self.results.add(setting, passage, **row)
                progress.update(task, advance=1, description=f"passages, {setting}")


def parse(description: str | None, **defaults: int) -> argparse.Namespace:
    """The arguments; `defaults` are whole numbers, and the sizes of the study."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, metavar="FILE", help="human text, or JSON lines")
    kept = "a line for each answer; what it holds already is not done again"
    parser.add_argument("--results", type=Path, required=True, metavar="FILE.jsonl", help=kept)
    parser.add_argument("--figure", type=Path, metavar="FILE", help=".html, or .png where kaleido is")
    parser.add_argument("--model", default=DEFAULT)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    arguments = parser.parse_args()
    for name in defaults:
        if getattr(arguments, name) < 2:
            parser.error(f"--{name}: got {getattr(arguments, name)}, expected 2 or more")
    return arguments


@contextmanager
def drawing(arguments: argparse.Namespace) -> Iterator[None]:
    """A study's run: its figure can be drawn, and what ends it early is one line and a status.

    `arguments` has `figure` and `results`.
    """
    try:
        if arguments.figure:
            page.check(arguments.figure)
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print(f"stopped; the same command goes on from {arguments.results}")
        raise SystemExit(INTERRUPTED) from None
    except (ThermoscopeError, OSError) as error:
        raise SystemExit(f"study: {error}") from None


def run(
    name: str,
    arguments: argparse.Namespace,
    measure: Callable[[Study], dict[str, Any]],
    draw: Callable[[dict[str, Any]], Any],
) -> None:
    """The study from its arguments to its figure, and one JSON line last; Ctrl-C leaves what was found."""
    with drawing(arguments):
        study = Study(name, arguments)
        try:
            result = {**study.about, "passages": arguments.passages, **measure(study)}
        finally:
            study.close()
        if arguments.figure:
            save(draw(result), arguments.figure)
    print(json.dumps(result))


def save(figure: Any, path: Path) -> None:
    """HTML that needs no network, or PNG."""
    figure.update_layout(template="plotly_white", width=1000, height=700, margin={"t": 90, "b": 60})
    figure.update_yaxes(rangemode="tozero")
    if path.suffix.lower() == ".html":
        figure.write_html(path, include_plotlyjs=True)
    else:
        figure.write_image(path, scale=2)
