import importlib.util
import re

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import page
from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import Check, Column, Reading, Table

EVIL = "<!--<script></script><b>&"


@pytest.fixture
def reading():
    return Reading(
        card="toy",
        question=f"What is {EVIL}?",
        law="a = b",
        findings=[EVIL],
        tables=[
            Table(
                "t",
                EVIL,
                [Column("a", EVIL, "nats", ".2f"), Column("b", "Text", form="r"), Column("c", "Yes or no")],
                [(1.234, EVIL, True), (None, " x", False), (7, "", None)],
            )
        ],
        checks=[Check("good", "one way", 0.0, 1e-9), Check("bad", "another", 1.0, 1e-9)],
        figures=[Figure("f", EVIL, [line([1], [2], EVIL)], axes("x", "y"))],
        notes=["A note."],
        model={"name": "m", "precision": "fp32"},
    )


def test_a_page_needs_no_network_and_obeys_no_text(reading, tmp_path):
    (path,) = page.save(reading, tmp_path / "out.html")
    text = path.read_text(encoding="utf-8")
    outside = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "<b>" not in outside  # neither from the tables, nor from a script that ended too early
    assert not re.search(r"<(script|link)[^>]+(src|href)=", text)
    assert "m, fp32" in text
    assert "<td>1.23</td>" in text
    assert "<td>–</td>" in text
    assert "<td>yes</td>" in text
    assert "FAILED" in text
    assert "A note." in text


def test_a_fragment_draws_into_its_own_part_of_a_page(reading):
    shown = page.fragment(reading)
    assert shown.startswith('<div class="thermoscope">')
    assert shown.count("data-figure=") == 2  # the place, and the script that looks for it
    assert page.fragment(Reading(question="?")).count("<script") == 0


@pytest.mark.parametrize("name", ["out.pdf", "out", "missing/out.html"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(name, tmp_path):
    with pytest.raises(InvalidRequest, match="--figure: got"):
        page.check(tmp_path / name)


def test_png_without_its_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "find_spec", lambda _: None)
    with pytest.raises(InvalidRequest, match="run `pip install kaleido`"):
        page.check(tmp_path / "out.png")


def test_a_picture_for_each_figure(reading, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(page, "write_image", lambda _, path, **__: drawn.append(path.name))
    twice = Reading(figures=[*reading.figures, *reading.figures])
    assert [path.name for path in page.save(twice, tmp_path / "out.png")] == ["out.png", "out.2.png"]
    assert drawn == ["out.png", "out.2.png"]


@pytest.mark.browser
@pytest.mark.skipif(importlib.util.find_spec("kaleido") is None, reason="kaleido is not installed")
def test_a_real_png(reading, tmp_path):
    (path,) = page.save(reading, tmp_path / "out.png")
    assert path.read_bytes().startswith(b"\x89PNG")
