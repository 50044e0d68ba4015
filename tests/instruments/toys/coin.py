"""Toss a coin that may be bent: the smallest instrument there can be, in one file."""

from typing import Literal

from thermoscope.instruments.shape import settings as shape
from thermoscope.instruments.shape.figure import Figure, axes, bars
from thermoscope.instruments.shape.reading import Check, Column, Reading, Table
from thermoscope.instruments.shape.settings import setting
from thermoscope.instruments.shape.source import Source

QUESTION = "What does a coin do?"
LAW = r"P(\text{heads}) = p"


class Settings(shape.Settings):
    """A coin."""

    p: float = setting(0.5, meaning="Probability of heads.", unit="probability", ge=0, le=1)
    tosses: int = setting(10, meaning="How often to toss it.", unit="tosses", ge=1, le=10**6)
    sides: shape.Many[shape.Text] = setting(
        ("heads", "tails"), meaning="What the sides are called.", unit="text", min_length=2, max_length=2
    )
    faces: Literal[2, 6] = setting(2, meaning="A coin has two, a die six.", unit="faces")
    notes: Source | None = setting(None, meaning="A file to keep beside the coin.", unit="file")


def read(settings, lab):
    """Toss it: every heads is a step of the progress."""
    for _ in lab.track("tossing", range(settings.tosses)):
        pass
    p = (settings.p, 1 - settings.p)
    size = None if settings.notes is None else len(settings.notes.data)
    rows = [(side, each, size) for side, each in zip(settings.sides, p, strict=True)]
    columns = (
        Column("side", "Which side"),
        Column("probability", "How likely it is", "probability"),
        Column("bytes", "How long the notes are", "bytes"),
    )
    return Reading(
        findings=[f"Heads comes up with probability {settings.p:g}."],
        tables=[Table("sides", "The sides", columns, rows)],
        figures=[Figure("sides", "The sides", [bars(settings.sides, p, "p")], axes("side", "probability"))],
        checks=[Check("Σ p = 1", "both sides together", abs(sum(p) - 1), 1e-12)],
    )
