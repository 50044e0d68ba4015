"""The file of results: what was kept is there again, half a line is not, another run is refused."""

import pytest

from benchmarks.studies.results import Results
from thermoscope.errors import InvalidRequest

ABOUT = {"study": "x", "tokens": 3}


def test_what_was_kept_is_there_again_by_passage(tmp_path):
    path = tmp_path / "results.jsonl"
    results = Results(path, ABOUT)
    results.add(0.1, 1, nats=2.5)
    results.add(0.1, 0, nats=1.5)
    results.close()
    again = Results(path, ABOUT)
    assert [row["nats"] for row in again.of(0.1, 2)] == [1.5, 2.5]
    again.close()


def test_a_line_that_was_not_finished_is_forgotten(tmp_path):
    path = tmp_path / "results.jsonl"
    results = Results(path, ABOUT)
    results.add("a", 0, nats=1.0)
    results.close()
    whole = path.read_text()
    path.write_text(whole + '{"setting": "a", "pass')
    again = Results(path, ABOUT)
    assert list(again.rows) == [("a", 0)]
    assert path.read_text() == whole
    again.add("a", 1, nats=2.0)
    again.close()
    last = Results(path, ABOUT)
    assert len(last.rows) == 2
    last.close()


def test_rows_of_another_run_are_refused(tmp_path):
    path = tmp_path / "results.jsonl"
    Results(path, ABOUT).close()
    with pytest.raises(InvalidRequest, match=r"got results\.jsonl of tokens 3, expected 4"):
        Results(path, ABOUT | {"tokens": 4})


@pytest.mark.parametrize(
    "text", ["It was a dark night.\nAnd", "[1]\n[2]\n", '{"study": "x"}\n{"a": 1}\n', "[1]\n", "half"]
)
def test_a_file_of_something_else_is_left_alone(tmp_path, text):
    path = tmp_path / "novel.txt"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=r"got novel\.txt"):
        Results(path, ABOUT)
    assert path.read_text() == text
