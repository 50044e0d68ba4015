"""What can we see? One file a card, all of one shape; this is the shelf that they stand on.

A file in this folder is an instrument, and holds four names:

- `QUESTION`, what it answers; `LAW`, the card's formula in LaTeX;
- `Settings`, what it may be asked (`shape.settings`);
- `read(settings, lab) -> Reading`, which looks (`shape.lab`, `shape.reading`).

One whose readings may hold a steering vector says so with `STEERS = True`; the command can then save it.
One that loads no model says so with `LOADS_MODEL = False`: a setting named `model` is then what it
is asked about. One that can look at another server, of which only the most probable tokens are known, has a
second way to do so, `read_upstream(settings, lab) -> Reading`; one that cannot may say why in `LOCAL`.

From these come the command, the address over HTTP, the JSON schema and the documentation's form.
"""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import pkgutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from thermoscope.errors import InstrumentNotFound, InvalidRequest

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.instruments.shape.reading import Reading
    from thermoscope.instruments.shape.settings import Settings


def names() -> list[str]:
    """The instruments that are here, by name."""
    found = pkgutil.iter_modules(__path__)
    return sorted(each.name for each in found if not each.ispkg and not each.name.startswith("_"))


def question(name: str) -> str:
    """What an instrument answers, read from its file without running it, so that a list of all is quick."""
    found = importlib.util.find_spec(f"{__name__}.{name}")
    assert found is not None
    for statement in ast.parse(Path(str(found.origin)).read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="QUESTION")], value=ast.Constant(value=str(text))):
                return text
    raise LookupError(f'{found.origin}: expected a line QUESTION = "…"')


def instrument(name: str) -> "Instrument":
    """The instrument of that name.

    **Errors:** `InstrumentNotFound`.
    """
    if name not in names():
        raise InstrumentNotFound(f"instrument: got {name!r}, expected one of {', '.join(names())}.")
    return Instrument(name, importlib.import_module(f"{__name__}.{name}"))


def read(name: str, *, model: "LanguageModel | str | Path | None" = None, **settings: Any) -> "Reading":
    """Take a reading: `read("nucleus", prompt="The capital of France is", top_p=0.8)`.

    `model`: one that is loaded, or the name of one to load for this reading; None is the default model. An
    instrument that loads none takes it as its setting.

    **Errors:** `InstrumentNotFound`; `InvalidRequest` for a setting that is unknown or out of range.
    """
    from thermoscope.instruments.shape.lab import Lab

    chosen = instrument(name)
    if not chosen.loads_model and model is not None:
        settings["model"] = model
    checked = chosen.settings.parse(settings)
    if chosen.loads_model and model is not None and not isinstance(model, str | Path):
        running = model
        return chosen.read(checked, Lab(lambda: running))

    def loaded() -> "LanguageModel":
        from thermoscope.engine.language_model import DEFAULT, load

        return load(DEFAULT if model is None else str(model))

    lab = Lab(loaded)
    try:
        return chosen.read(checked, lab)
    finally:
        if lab.loaded is not None:
            lab.loaded.close()


@dataclass(frozen=True)
class Instrument:
    """One of the files, and what all of them have in common."""

    name: str
    module: ModuleType

    @property
    def question(self) -> str:
        """What it answers."""
        return cast(str, self.module.QUESTION)

    @property
    def law(self) -> str:
        """The card's formula, in LaTeX."""
        return cast(str, self.module.LAW)

    @property
    def summary(self) -> str:
        """What it shows, in a paragraph or two."""
        return inspect.cleandoc(self.module.__doc__ or "")

    @property
    def loads_model(self) -> bool:
        """Whether it looks into a running model."""
        return cast(bool, getattr(self.module, "LOADS_MODEL", True))

    @property
    def steers(self) -> bool:
        """Whether its readings may hold a steering vector."""
        return cast(bool, getattr(self.module, "STEERS", False))

    @property
    def settings(self) -> "type[Settings]":
        """What it may be asked."""
        return cast("type[Settings]", self.module.Settings)

    def read(self, settings: "Settings", lab: "Lab") -> "Reading":
        """Take a reading, and write on it what was read."""
        since = time.perf_counter()
        read = self._way(lab)
        reading: Reading = read(settings, lab)
        if not lab.settled:  # half of it would be of another arithmetic; once in a process at most
            reading = read(settings, lab)
        return dataclasses.replace(
            reading,
            card=self.name,
            question=self.question,
            law=self.law,
            settings=settings.model_dump(),
            model=lab.seen if self.loads_model else None,
            seconds=round(time.perf_counter() - since, 4),
        )

    def _way(self, lab: "Lab") -> "Callable[[Settings, Lab], Reading]":
        if lab.upstream is None or not self.loads_model:
            return cast("Callable[[Settings, Lab], Reading]", self.module.read)
        if not hasattr(self.module, "read_upstream"):
            because = getattr(self.module, "LOCAL", "an upstream shows only its most probable tokens")
            raise InvalidRequest(
                f"{self.name}: needs the local engine, because {because}; ask a server without --upstream."
            )
        return cast("Callable[[Settings, Lab], Reading]", self.module.read_upstream)

    def describe(self) -> dict[str, Any]:
        """What it is and what it may be asked, as JSON schema."""
        return {
            "name": self.name,
            "question": self.question,
            "law": self.law,
            "summary": self.summary,
            "settings": self.settings.model_json_schema(),
        }
