"""What every instrument must do; a toy in a file of its own must do it, too."""

import inspect
import json

import pytest
from starlette.testclient import TestClient

from thermoscope import instruments
from thermoscope.cli import main
from thermoscope.engine import language_model
from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import page
from thermoscope.instruments.shape.lab import Lab
from thermoscope.server.app import create_app

LEAST = {"text": "The capital of France is", "model": "smollm2-135m"}  # by the unit of the setting
ASKED = {  # by what needs more than its schema says
    "latency": {"model": "llama-3.1-8b", "gpu": "T4"},
    "prompting": {"prompt": "cat -> cats, dog -> dogs,", "input": " tree ->"},
    "reasoning": {"prompt": "What is 3 + 4 - 2?", "solution": "3 + 4 = 7. Then 7 - 2 = 5."},
}
NAMES = [*instruments.names(), "coin"]
BOUNDS = {
    "string": ({"minLength", "maxLength"}, set()),
    "array": ({"minItems", "maxItems"}, set()),
    "integer": ({"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}),
    "number": ({"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}),
}


@pytest.fixture(params=NAMES)
def name(request, toy):
    return request.param


@pytest.fixture
def instrument(name):
    return instruments.instrument(name)


def words(instrument, given):
    """The same as a command line has it."""
    fields = instrument.settings.model_json_schema()["properties"]
    for key, value in given.items():
        yield from (value,) if fields[key]["argument"] else (f"--{key}", value)


@pytest.fixture
def given(instrument, name):
    """The least that the instrument must be told."""
    if name in ASKED:
        return ASKED[name]
    schema = instrument.settings.model_json_schema()
    return {key: LEAST[schema["properties"][key]["unit"]] for key in schema.get("required", ())}


@pytest.fixture(scope="module")
def readings(lm):
    """One reading of each, as Python takes it; several tests look at it."""
    taken = {}

    def take(name, given):
        if name not in taken:
            loaded = {"model": lm} if instruments.instrument(name).loads_model else {}
            taken[name] = instruments.read(name, **loaded, **given)
        return taken[name]

    return take


@pytest.fixture
def reading(name, given, readings):
    return readings(name, given)


def without_timings(plain):
    return {key: value for key, value in plain.items() if key != "timings"}


def test_it_says_what_it_answers_and_by_which_law(instrument, name):
    assert instrument.question.endswith("?")
    assert instrument.question == instruments.question(name)
    assert instrument.law
    assert instrument.summary
    assert instrument.settings.__doc__


def test_an_unknown_key_is_refused(instrument, given):
    with pytest.raises(InvalidRequest, match="tempo: no field of that name") as caught:
        instrument.settings.parse(given | {"tempo": 1})
    assert caught.value.param == "tempo"


def test_every_field_has_a_meaning_a_unit_and_a_range(instrument):
    for key, field in instrument.settings.model_json_schema()["properties"].items():
        assert field["description"].endswith("."), key
        assert field["unit"], key
        for kind in field.get("anyOf", [field]):
            if "enum" in kind or "const" in kind or kind.get("type") in ("boolean", "null") or "$ref" in kind:
                continue
            if field["unit"] == "file":
                continue  # its size is bounded where it is read
            least, most = BOUNDS[kind["type"]]
            assert least & kind.keys(), f"{key}: {kind}"
            infinite = {"const": "inf", "type": "string"} in field.get("anyOf", ())
            assert infinite or not most or most & kind.keys(), f"{key}: {kind}"


def test_no_field_has_the_name_of_an_option_that_every_card_has(instrument):
    """The command line would give both the same value, and `read` would take one for its own."""
    own = set(inspect.signature(instruments.read).parameters) - {"settings"}
    own |= {"json", "figure", "precision", "context", "threads"}
    if not instrument.loads_model:  # it has no options for loading, and takes the model as a setting
        own = {"json", "figure", "name"}
    assert not own & instrument.settings.model_fields.keys()


def test_settings_are_frozen(instrument, given):
    settings = instrument.settings.parse(given)
    with pytest.raises(ValueError, match="frozen"):
        setattr(settings, next(iter(type(settings).model_fields)), None)


def test_a_reading_is_json_and_says_what_was_read(reading, name, given):
    plain = json.loads(json.dumps(reading.to_dict(), allow_nan=False))
    assert plain == reading.to_dict()
    assert plain["card"] == name
    assert given.items() <= plain["settings"].items()
    assert plain["findings"]
    assert plain["tables"]
    for table in plain["tables"].values():
        for column in table["columns"].values():
            assert column["meaning"]
        for row in table["rows"]:
            assert row.keys() == table["columns"].keys()


def test_its_checks_are_there_and_pass(reading):
    assert reading.checks
    for check in reading.checks:
        assert check.passed, check
        assert check.how
        assert 0 <= check.tolerance < 0.1
    assert reading.passed


def test_its_figures_are_plotly_s(reading, tmp_path):
    import plotly.graph_objects as go

    assert reading.figures
    for figure in reading.figures:
        drawn = go.Figure(figure.to_dict())  # refuses a key or a value that Plotly does not know
        assert drawn.layout.title.text
        assert drawn.layout.xaxis.title.text
    (path,) = page.save(reading, tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert text.count("Plotly.newPlot") >= 1
    assert reading.question in text


def test_a_notebook_shows_it(reading):
    shown = reading._repr_html_()
    assert reading.question in shown
    assert "Plotly.newPlot" in shown


def test_the_command_line_and_http_give_the_same(lm, instrument, name, given, reading, monkeypatch, capsys):
    expected = without_timings(reading.to_dict())
    with TestClient(create_app(lm)) as client:
        answer = client.post(f"/v1/instruments/{name}", json=given)
    assert answer.status_code == 200, answer.text
    assert without_timings(answer.json()) == expected

    monkeypatch.setattr(language_model, "load", lambda *_, **__: lm)
    monkeypatch.setattr(lm, "close", lambda: None)
    assert main([name, *words(instrument, given), "--json"]) == 0
    assert without_timings(json.loads(capsys.readouterr().out)) == expected


def test_the_terminal_shows_it(lm, instrument, name, given, reading, monkeypatch, capsys):
    monkeypatch.setattr(language_model, "load", lambda *_, **__: lm)
    monkeypatch.setattr(lm, "close", lambda: None)
    assert main([name, *words(instrument, given)]) == 0
    shown = capsys.readouterr().out
    assert reading.question in shown
    assert "passed" in shown
    assert "FAILED" not in shown


def test_it_can_be_called_off(lm, instrument, given):
    lab = Lab(lambda: lm)
    lab.cancel()
    with pytest.raises(Exception, match="cancelled"):
        instrument.read(instrument.settings.parse(given), lab)


def test_it_says_how_far_it_is(lm, instrument, given):
    seen = []
    instrument.read(instrument.settings.parse(given), Lab(lambda: lm, watch=seen.append))
    assert seen
    assert all(0 <= each.done <= each.total for each in seen)


def test_http_lists_it_with_its_schema(lm, name, instrument):
    with TestClient(create_app(lm)) as client:
        listed = {each["name"]: each for each in client.get("/v1/instruments").json()["data"]}
        assert listed.keys() == set(instruments.names())
        assert listed[name] == client.get(f"/v1/instruments/{name}").json()
        assert listed[name]["settings"] == instrument.settings.model_json_schema()
        assert f"/v1/instruments/{name}" in client.get("/openapi.json").json()["paths"]


def test_the_list_of_commands_names_it(name, capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert f" {name} " in shown
    assert main([name, "--help"]) == 0
    assert instruments.question(name) in capsys.readouterr().out
