"""The server's log on stderr: a line for each request, readable or as JSON, and what went wrong.

No line holds a prompt, an answer, a key, a header or a query: only what is named in `Entry`.
"""

import json
import logging
import time
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any, Literal

Form = Literal["text", "json"]

logger = logging.getLogger("thermoscope.server.requests")
current: "ContextVar[Entry | None]" = ContextVar("entry", default=None)

PROBES = ("/health", "/metrics", "/web/")  # asked all the time; a line only where they fail


@dataclass
class Entry:
    """What the log says of one request. The tokens are of requests that the model answers.

    `cut`: the answer was not finished, because the client went away or the server stopped.
    """

    request_id: str
    method: str
    path: str
    client: str | None
    status: int | None = None
    ms: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cut: bool = False

    def __str__(self) -> str:
        tokens = f" {self.prompt_tokens}+{self.completion_tokens} tokens" if self.prompt_tokens else ""
        cut = " cut" if self.cut else ""
        # A path is what a client wrote; shown as Python would, it cannot begin a line of its own.
        path = self.path if self.path.isprintable() else repr(self.path)
        asked = f"{self.client or '-'} {self.method} {path}"
        return f"{asked} {self.status}{cut}{tokens} {self.ms:.0f} ms {self.request_id}"

    def write(self) -> None:
        """Write it to the log."""
        if self.status is not None and self.status < 400 and self.path.startswith(PROBES):
            return
        logger.info("%s", self, extra={"entry": self})


class JsonLines(logging.Formatter):
    """One object a line: `time`, `level`, and either a request's fields or a `message`."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        line: dict[str, Any] = {"time": _stamp(record), "level": record.levelname.lower()}
        entry = getattr(record, "entry", None)
        if isinstance(entry, Entry):
            known = {key: value for key, value in asdict(entry).items() if value not in (None, False)}
            line |= known | {"ms": round(entry.ms, 3)}
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Lines(logging.Formatter):
    """A line for people, and a traceback under it where something unexpected failed."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        line = f"{_stamp(record)} {record.levelname.lower()} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def start(form: Form) -> None:
    """Send what the server logs to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else Lines())
    for name, level in (("thermoscope", logging.INFO), ("uvicorn", logging.WARNING)):
        each = logging.getLogger(name)
        each.handlers, each.propagate = [handler], False
        each.setLevel(level)


def _stamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"
