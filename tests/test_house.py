"""The house itself: what is public, what starting costs, how large a module is."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import thermoscope

ROOT = Path(__file__).parents[1]
PACKAGE = Path(thermoscope.__file__).parent
HEAVY = ("torch", "transformers", "numpy", "tokenizers", "fastapi", "uvicorn")


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imported_by(program):
    listing = f"{program}\nimport sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_the_public_names_are_these():
    assert set(thermoscope.__all__) == {
        "LanguageModel",
        "Reply",
        "ThermoscopeError",
        "Trace",
        "__version__",
        "load",
        "read",
    }


@pytest.mark.parametrize("name", thermoscope.__all__)
def test_every_public_name_is_there_and_is_documented(name):
    found = getattr(thermoscope, name)
    if name == "__version__":
        assert re.fullmatch(r"\d+\.\d+\.\d+", found)
    else:
        assert found.__doc__
        assert found is getattr(importlib.import_module(found.__module__), name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'thermoscope' has no attribute 'lood'"):
        _ = thermoscope.lood


def test_importing_the_package_or_its_errors_loads_nothing_heavy():
    assert not imported_by("import thermoscope") & set(HEAVY)
    assert not imported_by("import thermoscope; thermoscope.ThermoscopeError") & set(HEAVY)


def test_help_starts_without_torch():
    program = "import sys; sys.argv = ['thermoscope', '--help']\nfrom thermoscope.cli import main\n"
    program += "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    assert not imported_by(program) & {"torch", "transformers", "fastapi", "uvicorn"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_median_module_is_short():
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in modules())
    assert lengths[len(lengths) // 2] <= 150


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert thermoscope.__version__ == project["version"]
    changes = ROOT / "CHANGELOG.md"
    if changes.exists():
        headings = re.findall(r"^## \[?v?(\d+\.\d+\.\d+)", changes.read_text(encoding="utf-8"), re.M)
        assert headings[:1] == [thermoscope.__version__]
