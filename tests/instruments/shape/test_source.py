import base64
import hashlib

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import settings as shape
from thermoscope.instruments.shape import source
from thermoscope.instruments.shape.settings import setting
from thermoscope.instruments.shape.source import File, Source


class Settings(shape.Settings):
    """A file."""

    file: Source | None = setting(None, meaning="A file.", unit="file")


def parsed(value):
    return Settings.parse({"file": value}).file


def test_a_path_is_read_where_python_or_the_command_line_gives_one(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes("\ufeffgrüße".encode())
    file = parsed(path)
    assert file == File(name="notes.txt", data="\ufeffgrüße".encode())
    assert file.text == "grüße"  # without the mark that some editors put first


def test_a_string_is_content_and_never_a_path(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("secret", encoding="utf-8")
    assert parsed(str(path)).data == str(path).encode()
    assert parsed({"name": str(path), "text": "public"}).data == b"public"


def test_bytes_come_in_base64():
    assert parsed({"name": "a.bin", "base64": base64.b64encode(b"\0\xff").decode()}).data == b"\0\xff"


@pytest.mark.parametrize(
    "value",
    [
        5,
        ["a"],
        {},
        {"name": "a"},
        {"text": "a", "base64": "YQ=="},
        {"base64": "no base64"},
        {"text": "a", "path": "b"},
        {"text": "\ud800"},
        {"name": "n" * 256, "text": "a"},
    ],
)
def test_what_is_no_content_is_refused(value):
    with pytest.raises(
        InvalidRequest, match=r"file: got .*, expected the content as a string, or "
    ) as caught:
        parsed(value)
    assert caught.value.param == "file"


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="No such file or directory; expected a file that can be read"):
        parsed(tmp_path / "nothing")
    with pytest.raises(InvalidRequest, match="Is a directory"):
        parsed(tmp_path)


def test_a_file_is_bounded_whichever_way_it_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "LIMIT", 3)
    path = tmp_path / "long"
    path.write_bytes(b"1234")
    for value in (path, "1234", {"base64": base64.b64encode(b"1234").decode()}):
        with pytest.raises(InvalidRequest, match=r"3 bytes"):
            parsed(value)
    assert parsed("123").data == b"123"


def test_text_that_is_not_utf_8_is_refused():
    with pytest.raises(InvalidRequest, match=r"a.txt: got bytes that are not UTF-8 \(at 2\)"):
        _ = File(name="a.txt", data=b"ab\xff").text


def test_a_reading_shows_what_was_read_without_the_content():
    settings = Settings.parse({"file": {"name": "a.txt", "text": "abc"}})
    assert settings.model_dump() == {
        "file": {"name": "a.txt", "bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    }
    assert Settings.parse({}).model_dump() == {"file": None}
