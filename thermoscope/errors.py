"""Every error that Thermoscope raises on purpose.

    ThermoscopeError
    ├── InvalidRequest        what the caller asked for cannot be done as asked
    │   └── ContextExceeded   prompt and answer do not fit the context window
    ├── ModelNotFound         no model of that name here, nor a way to fetch it
    ├── InstrumentNotFound    no instrument, or no job, of that name
    ├── ResponseNotFound      no response with that id is kept
    ├── TraceNotFound         no trace is kept under that id
    ├── BadModelFile          a model's file is truncated, corrupt or not what it claims
    ├── UnsupportedModel      a sound model that this program cannot run
    ├── FetchFailed           a download did not end with the bytes that were promised
    ├── OutOfMemory           the model needs more memory than is free
    ├── KernelUnavailable     the native kernel is not built here, or cannot be
    ├── EngineStopped         the engine was shut down while a request waited
    ├── UpstreamFailed        the server that answers for this one refused a request, or failed at it
    │   └── UpstreamUnreachable   it gives no answer, or broke one off
    ├── TimedOut              a request took longer than it was given
    ├── ReadingCancelled      whoever asked for a reading called it off
    └── TooBusy               more requests or readings wait than are kept waiting

Each message says what was got, what was expected, and what to do. The command line prints it in one
line and exits with 2; the server puts it into OpenAI's error form.
"""


class ThermoscopeError(Exception):
    """The root of the tree. `str(error)` is one line, meant for people."""


class InvalidRequest(ThermoscopeError):
    """A field of a request is missing, of the wrong type, or out of range.

    `param` names the field, and `code` is OpenAI's machine-readable reason, where there is one.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class ContextExceeded(InvalidRequest):
    """The prompt, or prompt and answer together, do not fit the context window."""

    def __init__(self, message: str) -> None:
        super().__init__(message, param="messages", code="context_length_exceeded")


class ModelNotFound(ThermoscopeError):
    """No model of that name is loaded, cached, on disk, or to be fetched."""


class InstrumentNotFound(ThermoscopeError):
    """There is no instrument of that name, or no job with that id."""


class ResponseNotFound(ThermoscopeError):
    """There is no response with that id, or it is kept no longer."""


class TraceNotFound(ThermoscopeError):
    """No trace is kept under that id, or it has no such answer."""


class BadModelFile(ThermoscopeError):
    """A model's file is truncated, corrupt, or contradicts itself."""


class UnsupportedModel(ThermoscopeError):
    """The file is sound, but its architecture, tokenizer or tensor type has no implementation here."""


class FetchFailed(ThermoscopeError):
    """A download failed, or ended with bytes that do not match their checksum."""


class OutOfMemory(ThermoscopeError):
    """The model and its cache need more memory than is free."""


class KernelUnavailable(ThermoscopeError):
    """The native kernel is not built, and cannot be built or run here; PyTorch's own kernels serve."""


class EngineStopped(ThermoscopeError):
    """The engine was stopped before the request could finish."""


class UpstreamFailed(ThermoscopeError):
    """A server that this one stands before refused a request, or failed at it.

    `status` is what a client is told over HTTP; `kind`, `param` and `code` are OpenAI's. `retry_after`:
    seconds to wait, where the server said so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        kind: str = "server_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after = retry_after


class UpstreamUnreachable(UpstreamFailed):
    """A server that this one stands before gave no answer, or broke one off."""


class ReadingCancelled(ThermoscopeError):
    """A reading was called off before it was finished."""


class TimedOut(ThermoscopeError):
    """A request was not finished within the time that it was given."""


class TooBusy(ThermoscopeError):
    """As many wait already as are kept waiting; ask again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after
