"""What the pages say is run: their Python, their commands, their requests; and what they list is complete."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import httpx
import pytest
import typer

import thermoscope as ts
from tests.peer.test_openai_legacy import TEMPERATURE
from tests.server.conftest import serving
from thermoscope import cli, instruments
from thermoscope.engine.request import Sampling
from thermoscope.engine.trace import Record, Step
from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.errors import describe
from thermoscope.server.fields import Extension
from thermoscope.server.responses.schema import ResponsesRequest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^```([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")
ADDRESS = "http://127.0.0.1:8000"


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name, kind):
    """The fenced blocks of a page whose opening fence says exactly `kind`."""
    found = [body for opening, body in FENCE.findall(page(name)) if opening == kind]
    assert found, f"{name} has no block of {kind}"
    return found


def commands():
    """Every `$ thermoscope …` of a page, with the output that the page shows."""
    for path in PAGES:
        for opening, body in FENCE.findall(path.read_text(encoding="utf-8")):
            if opening == "console" and body.startswith("$ thermoscope "):
                line, _, output = body.removeprefix("$ ").partition("\n")
                yield pytest.param(shlex.split(line)[1:], output, id=f"{path.name}: {line}")


COMMANDS = list(commands())
CARDS = instruments.names()
LEAST = {
    "latency": {"model": "llama-3.1-8b", "gpu": "T4"},
    "memory": {"model": "llama-2-7b"},
    "prompting": {"prompt": "cat -> cats, dog -> dogs,", "input": " tree ->"},
    "reasoning": {"prompt": "What is 3 + 4 - 2?", "solution": "3 + 4 = 7.\n7 - 2 = 5."},
}
SHOWN = [each for each in COMMANDS if each.values[0][0] == "run" and each.values[1]]


@pytest.fixture
def python(tmp_path, monkeypatch, capsys):
    """Run a program as a file of its own, in an empty folder, and give what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(program):
        exec(compile(program, "page", "exec"), {"__name__": "__main__"})
        return capsys.readouterr().out

    return run


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder, and give what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(arguments):
        assert cli.main(arguments) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def lm():
    with ts.load() as lm:
        yield lm


@pytest.fixture(scope="module")
def address(lm):
    with serving(lm, ["gpt-4o"]) as address:
        yield address


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_the_python_of_a_page_runs_from_top_to_bottom(name, python):
    out = python("\n".join(blocks(name, "python runnable")))
    assert out.startswith("The capital of France is Paris.\n")
    if name == "README.md":
        (shown,) = blocks(name, "text")[:1]
        assert alike(out, shown, rel=0, abs=0.1)


def alike(out, shown, **tolerance):
    """Whether two texts are the same but for the last digits of their numbers, which are the machine's."""
    digits = re.compile(r"-?\d+\.\d+")
    if digits.sub("", out.rstrip()) != digits.sub("", shown.rstrip()):
        return False
    numbers = [[float(each) for each in digits.findall(text)] for text in (out, shown)]
    return numbers[0] == pytest.approx(numbers[1], **tolerance)


@pytest.mark.parametrize("card", CARDS)
def test_the_python_of_a_card_runs(card, python):
    assert python("\n".join(blocks(f"docs/cards/{card}.md", "python runnable")))


@pytest.mark.parametrize("card", CARDS)
def test_the_request_of_a_card_is_answered(card, address):
    for body in blocks(f"docs/cards/{card}.md", f"json {card}"):
        answer = httpx.post(f"{address}/v1/instruments/{card}", json=json.loads(body), timeout=120)
        assert answer.status_code == 200, answer.text
        assert answer.json()["passed"]


@pytest.mark.parametrize(("arguments", "output"), [each for each in COMMANDS if each.values[0][0] in CARDS])
def test_a_card_prints_what_its_page_shows(arguments, output, shell):
    """A page leaves lines out, and says so with a line of one ellipsis."""
    if not output:
        return
    printed = [line.rstrip() for line in shell(arguments).splitlines()]
    for line in output.splitlines():
        found = line.rstrip() in printed
        if arguments[0] == "prompting":  # whose gradients PyTorch rounds as the processor has it
            found = found or any(alike(each, line, rel=1e-3, abs=5e-4) for each in printed)
        assert found or line.strip() in ("", "…"), line


@pytest.mark.parametrize("card", CARDS)
def test_the_page_of_a_card_names_what_it_shows(card, lm):
    """Every table and every check that a plain reading has."""
    text = page(f"docs/cards/{card}.md")
    loaded = {"model": lm} if instruments.instrument(card).loads_model else {}
    reading = ts.read(card, **loaded, **LEAST.get(card, {"prompt": "The capital of France is"}))
    for table in reading.tables:
        assert f"`{table.name}`" in text
    for check in reading.checks:
        assert check.name in text


def test_todays_client_of_the_readme_runs(address, python):
    out = python("\n".join(blocks("README.md", "python served")).replace(ADDRESS, address))
    assert "' Paris'" in out
    assert re.search(r"-0\.\d{3} nats, entropy \d\.\d{3}", out)


def test_the_old_client_of_the_readme_is_the_one_that_is_tested():
    """tests/peer runs that snippet with openai 0.28.1."""
    (snippet,) = blocks("README.md", "python")
    assert TEMPERATURE in snippet


@pytest.mark.parametrize(("arguments", "output"), COMMANDS)
def test_a_command_of_a_page_is_one(arguments, output):
    command = typer.main.get_command(cli.app)
    context = command.make_context("thermoscope", list(arguments))
    name, command, rest = command.resolve_command(context, list(arguments))
    command.make_context(name, rest, parent=context)  # complains of an option that is none


@pytest.mark.parametrize(("arguments", "output"), SHOWN)
def test_a_command_gives_what_its_page_shows(arguments, output, shell):
    printed = shell(arguments)
    if "--json" not in arguments:
        assert printed == output
        return
    got, shown = json.loads(printed), json.loads(output)
    changing = {"timings", "seed"}
    assert {key: got[key] for key in shown.keys() - changing} == {
        key: shown[key] for key in shown.keys() - changing
    }
    assert got.keys() == shown.keys()
    assert got["timings"].keys() == shown["timings"].keys()


@pytest.mark.parametrize("body", blocks("docs/server.md", "json response"))
def test_a_response_of_the_server_manual_works(address, body):
    answer = httpx.post(f"{address}/v1/responses", json=json.loads(body), timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.json()["output"][0]["type"] in ("message", "function_call")


@pytest.mark.parametrize("name", ["completions", "embeddings"])
def test_texts_of_the_servers_page_are_taken(name, address):
    (body,) = blocks("docs/server.md", f"json {name}")
    answer = httpx.post(f"{address}/v1/{name}", json=json.loads(body), timeout=120)
    assert answer.status_code == 200, answer.text
    texts = json.loads(body).get("input", ["one"])
    assert len(answer.json()["choices" if name == "completions" else "data"]) == len(texts)


@pytest.mark.parametrize("body", blocks("docs/server.md", "json request"))
def test_a_request_of_the_servers_page_is_answered(body, address):
    answer = httpx.post(f"{address}/v1/chat/completions", json=json.loads(body), timeout=120)
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    assert ("thermoscope" in choice) == ("steps" in json.loads(body).get("thermoscope", {}))


def test_the_servers_page_shows_a_real_error(address):
    body = json.loads(blocks("docs/server.md", "json request")[0]) | {"top_p": 2}
    answer = httpx.post(f"{address}/v1/chat/completions", json=body)
    assert answer.json() == json.loads(blocks("docs/server.md", "json")[0])


def test_the_servers_page_names_every_field_status_and_code():
    text = page("docs/server.md")
    for name in {**ChatRequest.model_fields, **ResponsesRequest.model_fields, **Extension.model_fields}:
        assert f"`{name}`" in text
    for kind in (ts.ThermoscopeError, *ts.ThermoscopeError.__subclasses__()):
        status, body = describe(kind("x"))
        assert f"| {status} |" in text
        assert body["error"]["code"] is None or f"`{body['error']['code']}`" in text


def test_the_pages_name_every_setting_and_every_quantity_of_a_step():
    for field in dataclasses.fields(Sampling):
        assert re.search(rf"^\|.*`{field.name}`.*\|$", page("docs/python.md"), re.MULTILINE), field.name
    for field in [*dataclasses.fields(Step), *dataclasses.fields(Record)]:
        for name in ("README.md", "docs/python.md"):
            assert f"`{field.name}`" in page(name)


def test_the_table_of_marks_is_complete():
    config = page("pyproject.toml").partition("markers = [")[2].partition("]")[0]
    for mark in re.findall(r'"(\w+):', config):
        assert f"| `{mark}` |" in page("CONTRIBUTING.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_somewhere(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_files_that_the_pages_name_are_there():
    for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for path in re.findall(r"(?<![\w/])((?:\w+/)+\w+\.(?:py|js|json|md|toml))\b", page(name)):
            assert (ROOT / path).exists() or (ROOT / "thermoscope" / path).exists(), f"{name}: {path}"
