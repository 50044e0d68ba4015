"""`thermoscope chat`: a conversation, with its history."""

import dataclasses
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermoscope.cli import options
from thermoscope.cli.answer import Answer, check_writable, save_traces
from thermoscope.cli.terminal import complain, note, print_json, visible
from thermoscope.errors import ContextExceeded, InvalidRequest

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.request import Sampling

HELP = """\
/new                 forget the conversation, keep the system message
/system TEXT         set the system message, and start anew; without TEXT, none
/set NAME VALUE      change a setting, as in /set temperature 0.5; without both, show all
/save FILE           save the last answer's trace
/help                this
/exit, Ctrl-D        leave
Ctrl-C               stop the answer, not the program"""
HISTORY_LINES = 1000
# Settings of `Sampling` that one line of text can hold, and what reads them.
SETTINGS: dict[str, Callable[[str], Any]] = {
    "profile": str,
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "typical_p": float,
    "epsilon": float,
    "eta": float,
    "top_n_sigma": float,
    "xtc_probability": float,
    "xtc_threshold": float,
    "mirostat_tau": float,
    "mirostat_eta": float,
    "dynatemp_range": float,
    "dynatemp_exponent": float,
    "dry_multiplier": float,
    "dry_base": float,
    "dry_allowed_length": int,
    "repetition_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "seed": int,
    "max_tokens": int,
    "stop": lambda text: (text,),
}


def chat(
    system: options.System = None,
    json: options.Json = False,
    profile: options.Profile = "openai",
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    min_p: options.MinP = 0.0,
    seed: options.Seed = None,
    max_tokens: options.MaxTokens = None,
    model: options.Model = options.DEFAULT_MODEL,
    precision: options.Precision = None,
    context: options.Context = None,
    threads: options.Threads = None,
) -> None:
    """Talk with a model. Ctrl-C stops an answer, Ctrl-D leaves, /help lists the commands.

    With --json each line of stdin is a message, and each answer one line of JSON.
    """
    from thermoscope.engine.request import Sampling

    sampling = Sampling(
        profile=profile,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        seed=seed,
        max_tokens=max_tokens,
    )
    if system is not None:
        options.text("--system", system)
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not json
    with options.load_model(
        model, precision=precision, context=context, threads=threads, slots=1, progress=terminal
    ) as loaded:
        conversation = Conversation(loaded, sampling, system)
        if terminal:
            note(f"{loaded.name}, {loaded.precision}, {loaded.context} tokens of context; /help for commands")
        with _Lines(terminal) as lines:
            _talk(conversation, lines, json=json)


class Conversation:
    """What was said so far, and the settings for what comes next."""

    def __init__(self, model: "LanguageModel", sampling: "Sampling", system: str | None) -> None:
        self.model = model
        self.sampling = sampling
        self.last: Answer | None = None
        self.messages: list[dict[str, str]] = []
        self.start(system)

    def start(self, system: str | None) -> None:
        """Begin anew."""
        self.system = system
        self.messages = [{"role": "system", "content": system}] if system else []

    def ask(self, message: str, *, show: bool) -> Answer:
        """Say something and have it answered; what Ctrl-C left of an answer counts as said.

        Nothing is added where the engine refuses, so the conversation stands as it stood.
        """
        messages = [*self.messages, {"role": "user", "content": message}]
        answer = Answer(self.model, self.model.tokenizer.chat(messages), self.sampling)
        answer.stream(lambda delta: print(visible(delta.text), end="", flush=True) if show else None)
        self.messages = [*messages, {"role": "assistant", "content": answer.texts[0]}]
        self.last = answer
        return answer

    def set(self, name: str, value: str) -> None:
        """Change one of `SETTINGS`; `none` takes the default back."""
        name = name.replace("-", "_")
        if name not in SETTINGS:
            raise InvalidRequest(f"/set: got {name!r}, expected one of {', '.join(SETTINGS)}.")
        fields = {field.name: field for field in dataclasses.fields(self.sampling)}
        try:
            new: Any = fields[name].default if value == "none" else SETTINGS[name](value)
        except ValueError:
            raise InvalidRequest(f"/set {name}: got {value!r}, expected a number.") from None
        changes: dict[str, Any] = {name: new}
        self.sampling = dataclasses.replace(self.sampling, **changes)


class _Lines:
    """The user's lines: with editing and a history on a terminal, plain from a pipe."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal
        self._readline: Any = None

    def __enter__(self) -> "_Lines":
        if not self.terminal:
            return self
        import platformdirs

        self._file = platformdirs.user_state_path("thermoscope") / "history"
        with suppress(ImportError, OSError):  # no line editing here, or no history yet
            import readline

            self._readline = readline
            readline.set_history_length(HISTORY_LINES)
            readline.read_history_file(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        if self._readline is not None:
            with suppress(OSError):  # a home that cannot be written is no reason to fail
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._readline.write_history_file(self._file)

    def next(self) -> str | None:
        """The next line, or None at the end."""
        if self.terminal:
            try:
                return input("> ")
            except EOFError:
                print()
                return None
        return line.removesuffix("\n") if (line := sys.stdin.readline()) else None


def _talk(conversation: Conversation, lines: _Lines, *, json: bool) -> None:
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # a stray byte must not end the conversation
    while True:
        try:
            line = lines.next()
            if line is None or line.strip() in ("/exit", "/quit"):
                return
            if line.strip():
                _turn(conversation, line, json=json)
        except KeyboardInterrupt:
            if not lines.terminal:
                raise
            note("\n/exit or Ctrl-D leaves")


def _turn(conversation: Conversation, line: str, *, json: bool) -> None:
    try:
        if line.startswith("/"):
            _command(conversation, line)
        else:
            _answer(conversation, line, json=json)
    except BrokenPipeError:
        raise
    except ContextExceeded as error:
        _refuse(f"{error} Say something shorter, or start anew with /new.", json=json)
    except (InvalidRequest, OSError) as error:
        _refuse(str(error), json=json)


def _refuse(message: str, *, json: bool) -> None:
    if json:
        print_json({"error": message}, indent=None)
    else:
        complain(message)


def _answer(conversation: Conversation, line: str, *, json: bool) -> None:
    answer = conversation.ask(line, show=not json)
    if json:
        print_json(answer.to_dict(), indent=None)
        return
    print(flush=True)
    if answer.traces[0].finish_reason == "length":
        note(f"[stopped after {len(answer.traces[0].steps)} tokens; /set max_tokens changes that]")


def _command(conversation: Conversation, line: str) -> None:
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    match name:
        case "/new":
            conversation.start(conversation.system)
        case "/system":
            conversation.start(rest or None)
        case "/set":
            setting, _, value = rest.partition(" ")
            if value:
                conversation.set(setting, value.strip())
            else:
                note("  ".join(f"{each}={getattr(conversation.sampling, each)}" for each in SETTINGS))
        case "/save":
            if conversation.last is None or not rest:
                raise InvalidRequest("/save: expected a file's name, after an answer.")
            path = Path(rest).expanduser()
            check_writable(path)
            note(f"trace: {save_traces(conversation.last, path)[0]}")
        case "/help":
            note(HELP)
        case _:
            raise InvalidRequest(f"{name}: no such command; /help lists them.")
