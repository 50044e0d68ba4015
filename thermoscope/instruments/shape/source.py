"""A file that an instrument reads: a path on the command line, content or an upload over HTTP."""

import base64
import hashlib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from thermoscope.errors import InvalidRequest

LIMIT = 4 * 2**20  # bytes; in base64 it still fits the server's bound on a body
EXPECTED = 'Input should be the content as a string, or {"name": …, "text": …}, or {"name": …, "base64": …}'


class File(BaseModel):
    """A file's bytes and the name that people know it by; the name is never opened."""

    model_config = ConfigDict(frozen=True)

    name: str
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file at a path of this machine.

        **Errors:** `InvalidRequest` where it cannot be read or is too large.
        """
        try:
            with path.open("rb") as opened:
                data = opened.read(LIMIT + 1)
        except OSError as error:
            reason = error.strerror or error
            raise InvalidRequest(f"{path}: {reason}; expected a file that can be read.") from error
        if len(data) > LIMIT:
            raise InvalidRequest(f"{path}: got more than {LIMIT} bytes, expected a smaller file.")
        return cls(name=path.name, data=data)

    @property
    def text(self) -> str:
        """The content as UTF-8.

        **Errors:** `InvalidRequest` where it is not.
        """
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"{self.name}: got bytes that are not UTF-8 (at {error.start}), expected text."
            ) from None

    def summary(self) -> dict[str, Any]:
        """What a reading says of the file: its content would be too much."""
        return {
            "name": self.name,
            "bytes": len(self.data),
            "sha256": hashlib.sha256(self.data).hexdigest(),
        }


class Content(BaseModel):
    """A file in JSON: its text, or its bytes in base64. `name` is for people only."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field("content", max_length=255)
    text: str | None = None
    base64: str | None = None


def _file(value: object) -> object:
    """Only Python and the command line can hold a `Path`; JSON's strings are content, never names."""
    if isinstance(value, Path):
        return File.read(value)
    if isinstance(value, str):
        value = {"text": value}
    return _bounded(value if isinstance(value, File) else _content(value))


def _content(value: object) -> File:
    try:
        given = Content.model_validate(value)
        match given.text, given.base64:
            case str(text), None:
                data = text.encode()
            case None, str(encoded):
                data = base64.b64decode(encoded, validate=True)
            case _:
                raise ValueError
    except ValueError:  # pydantic's, base64's and Unicode's are of this kind
        raise PydanticCustomError("file", EXPECTED) from None
    return File(name=given.name, data=data)


def _bounded(file: File) -> File:
    if len(file.data) > LIMIT:
        raise PydanticCustomError("file", f"Input should be a file of at most {LIMIT} bytes")
    return file


Source = Annotated[
    File,
    BeforeValidator(_file, json_schema_input_type=str | Content),
    PlainSerializer(File.summary),
]
