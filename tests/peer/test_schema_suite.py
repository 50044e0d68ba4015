"""The official JSON Schema suite, as it lies in the source of `jsonschema`: whether what is taken holds.

Of every schema that is taken: no instance that the suite calls invalid can be spoken, and what a model speaks
at random is valid.
"""

import collections
import json
import re
import subprocess
import sys
import tarfile
from importlib import metadata

import jsonschema
import pytest
from referencing.exceptions import Unresolvable

from tests import tiny
from tests.answers import finish
from tests.schemas import asked
from thermoscope.engine.engine import Engine
from thermoscope.engine.grammar import Grammar
from thermoscope.errors import InvalidRequest

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """The suite of draft 2020-12: (file, description, schema, instances)."""
    folder = tmp_path_factory.mktemp("jsonschema")
    version = f"jsonschema=={metadata.version('jsonschema')}"
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", version]
    subprocess.run(download, cwd=folder, check=True)
    groups = []
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        for member in archive:
            if re.search(r"/json/tests/draft2020-12/[^/]+\.json$", member.name):
                for group in json.load(archive.extractfile(member)):
                    groups.append(
                        (
                            member.name.rpartition("/")[2],
                            group["description"],
                            group["schema"],
                            group["tests"],
                        )
                    )
    assert len(groups) > 250
    return groups


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.ours(tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("tiny")))


def spoken(guide, model, value):
    """Whether an answer may be this value; the tiny model's words are ASCII, so some it cannot spell."""
    try:
        for token in model.tokenizer.encode(json.dumps(value)):
            if guide.complete or token not in guide.allowed():
                return False
            guide.accept(token)
        return guide.complete or bool(set(guide.allowed().tolist()) & model.tokenizer.end_ids)
    except InvalidRequest:
        return False


def test_the_official_suite(suite, model):
    engine = Engine(model, slots=2, context=256)
    seen = collections.Counter()
    wrong = []
    for file, description, schema, instances in suite:
        seen["schemas"] += 1
        try:
            grammar = Grammar.json_schema(schema)
            guide = engine.guides.guide(grammar)
        except InvalidRequest:
            seen["refused"] += 1
            continue
        seen["taken"] += 1
        for instance in instances:
            kind = "valid" if instance["valid"] else "invalid"
            says = spoken(guide.copy(), model, instance["data"])
            seen[kind, says] += 1
            if says and not instance["valid"]:
                wrong.append((file, description, instance["description"]))
        for trace in finish(engine, [asked(grammar, model.tokenizer, seed) for seed in range(2)]):
            seen[trace.finish_reason] += 1
            if trace.finish_reason == "stop":
                try:
                    jsonschema.Draft202012Validator(schema).validate(json.loads(trace.text))
                except (jsonschema.ValidationError, Unresolvable) as error:
                    wrong.append((file, description, trace.text, str(error)[:80]))
    print(dict(seen))
    assert not wrong, "\n".join(map(str, wrong))
