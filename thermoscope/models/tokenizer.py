"""Text to token ids and back."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Self

import tokenizers

from thermoscope.errors import BadModelFile, ContextExceeded, InvalidRequest, UnsupportedModel
from thermoscope.models import calls
from thermoscope.models.chat_template import ChatTemplate

CORE_FILE, SETTINGS_FILE = "tokenizer.json", "thermoscope-tokenizer.json"
# Control tokens that end an answer even where a model's files name another: chat models often list only one.
END_NAMES = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    *("<|end|>", "<end_of_turn>", "<|end_of_turn|>", "</s>"),
)
SPACE = "▁"  # how SentencePiece writes a space

Spelling = Literal["byte-level", "sentencepiece"]


class Tokenizer:
    """The `tokenizers` library's tokenizer with what a decoder needs to know beside it.

    - `vocab_size`: number of ids. `end_ids`: ids that end an answer.
    - `bos`: the id put before a plain prompt, where the model wants one.
    - `template`: the chat template, where the model has one.
    - `room`: tokens that a conversation may have at most, for who serves it; None for any number. One that is
      longer by its bytes alone is refused unread: to read megabytes takes long, and everybody waits for it.
    """

    room: int | None = None

    def __init__(
        self,
        core: tokenizers.Tokenizer,
        *,
        end_ids: Iterable[int] = (),
        bos: int | None = None,
        template: ChatTemplate | None = None,
    ) -> None:
        self.core, self.bos, self.template = core, bos, template
        self._added = core.get_added_tokens_decoder()
        self._control = {token for token, added in self._added.items() if added.special}
        named = (core.token_to_id(name) for name in END_NAMES)
        self.end_ids = frozenset(end_ids) | {token for token in named if token in self._control}
        self.vocab_size = max(core.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self._spelling = spelling_of(core)
        self._bytes: dict[int, bytes] = {}
        self._lock = Lock()

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text, without BOS. With `special`, a control token's name in the text becomes its id;
        without, it is text like any other.

        **Errors:** `InvalidRequest` for a text that is not Unicode (half of a surrogate pair).
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"text: got half a surrogate pair at character {error.start}, "
                "expected Unicode text; send both halves.",
                param="messages",
            ) from error
        with self._lock:  # the library keeps the choice as a setting, not as an argument
            self.core.encode_special_tokens = not special
            ids: list[int] = self.core.encode(text, add_special_tokens=False).ids
        return ids

    def prompt(self, text: str) -> tuple[int, ...]:
        """Ids of a plain text, after BOS where the model wants one."""
        return (() if self.bos is None else (self.bos,)) + tuple(self.encode(text))

    def chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[int, ...]:
        """Ids of a conversation, up to where the answer begins.

        - `tools`: functions that may be called, each as OpenAI's chat requests describe it.
        - `messages`: `role` and `content`, always a text. An assistant's `tool_calls` are OpenAI's, but with
          their arguments as objects; a message of the role `tool` has its `tool_call_id`.

        As Hugging Face does, the rendered text is read with its control tokens: a message that spells one
        (`<|im_end|>`) is not told from the template's own. BOS is there if the template writes it.

        **Errors:** `InvalidRequest` where the model has no chat template or the template refuses.
        """
        if self.template is None:
            raise InvalidRequest(
                "messages: this model has no chat template; send a plain prompt instead.", param="messages"
            )
        if tools or any(message["role"] == "tool" or message.get("tool_calls") for message in messages):
            text = calls.render(self.template, self._own_calls, messages, tools)
        else:
            text = self.template.render(messages)
        self._check_room(text)
        return tuple(self.encode(text, special=True))

    def _check_room(self, text: str) -> None:
        if self.room is None or self.core.normalizer is not None:  # which might shorten it
            return
        least = -(-len(text.encode("utf-8", "replace")) // self._longest)
        if least > self.room:
            raise ContextExceeded(
                f"context: got at least {least} tokens of the prompt, expected at most {self.room}; cut it."
            )

    @cached_property
    def _longest(self) -> int:
        """Bytes of the longest token, or somewhat more."""
        return max(len(piece.encode()) for piece in self.core.get_vocab(with_added_tokens=True))

    @property
    def call_format(self) -> calls.CallFormat:
        """How the model writes the call of a function: its template's way, or the one it is told."""
        return self._own_calls or calls.HERMES

    @property
    def call_marks(self) -> dict[str, int]:
        """The marks of that form which are control tokens here, with their ids."""
        ids = {mark: self.core.token_to_id(mark) for mark in self.call_format.marks}
        return {mark: token for mark, token in ids.items() if token in self._control}

    @cached_property
    def _own_calls(self) -> calls.CallFormat | None:
        return calls.format_of(self.template) if self.template else None

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token adds to the visible text; none for a control token."""
        found = self._bytes.get(token)
        if found is None:
            found = self._bytes[token] = b"" if self.is_control(token) else self._spelled(token)
        return found

    def piece(self, token: int) -> str:
        """A token for display: its text, or a control token's own name."""
        if self.is_control(token):
            return self.core.id_to_token(token) or f"<unused {token}>"
        return self.bytes_of(token).decode("utf-8", "replace")

    def is_control(self, token: int) -> bool:
        """Whether a token is never text: a control token, or a row that pads the vocabulary."""
        return token in self._control or self.core.id_to_token(token) is None

    def decode(self, tokens: Iterable[int]) -> str:
        """The visible text of a run of tokens."""
        return b"".join(map(self.bytes_of, tokens)).decode("utf-8", "replace")

    def save(self, folder: Path) -> None:
        """Write two files that `load` reads back."""
        self.core.save(str(folder / CORE_FILE), pretty=False)
        template = self.template and {
            "source": self.template.source,
            "bos": self.template.bos,
            "eos": self.template.eos,
        }
        settings = {"end_ids": sorted(self.end_ids), "bos": self.bos, "template": template}
        (folder / SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        **Errors:** `BadModelFile`.
        """
        try:
            settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
            core = tokenizers.Tokenizer.from_file(str(folder / CORE_FILE))
            template = settings["template"] and ChatTemplate(**settings["template"])
            return cls(core, end_ids=settings["end_ids"], bos=settings["bos"], template=template)
        except Exception as error:  # tokenizers raises bare Exception
            raise BadModelFile(f"{folder}: got no saved tokenizer ({error}); delete the folder.") from error

    def _spelled(self, token: int) -> bytes:
        added = self._added.get(token)
        if added is not None:
            return added.content.encode()
        piece: str = self.core.id_to_token(token) or ""
        if self._spelling == "byte-level":
            return b"".join(BYTES.get(char) or char.encode() for char in piece)
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes.fromhex(piece[3:5])
        return piece.replace(SPACE, " ").encode()


def check_ids(core: tokenizers.Tokenizer, named: Mapping[str, int | None], rows: int, where: str) -> None:
    """Refuse a tokenizer whose ids do not fit an embedding of so many rows.

    Rows may outnumber ids by a little, because makers round the vocabulary up for their hardware.
    """
    ids = set(core.get_vocab(with_added_tokens=True).values())
    size = max(ids, default=-1) + 1
    if size > rows or rows - size > PADDING:
        raise BadModelFile(
            f"{where}: got a tokenizer of {size} ids, expected {rows} as the embedding has; "
            "tokenizer and weights belong to different models, fetch both again."
        )
    if holes := sorted(set(range(size)) - ids):
        raise BadModelFile(
            f"{where}: got no token for {len(holes)} ids, the first being {holes[0]}, expected one for each "
            f"below {size}; the tokenizer is incomplete or has duplicates, fetch it again."
        )
    for name, token in named.items():
        if token is not None and not 0 <= token < rows:
            raise BadModelFile(
                f"{where}: {name}: got id {token}, expected 0 to {rows - 1}; fetch the model again."
            )


def spelling_of(core: tokenizers.Tokenizer) -> Spelling:
    """How a tokenizer writes bytes in its vocabulary, told from its decoder."""
    state = json.loads(core.decoder.__getstate__()) if core.decoder else {}
    kinds = {part["type"] for part in [state, *state.get("decoders", [])] if part}
    if "ByteLevel" in kinds:
        return "byte-level"
    if kinds & {"ByteFallback", "Metaspace", "Replace"}:
        return "sentencepiece"
    raise UnsupportedModel(
        f"tokenizer: got a decoder of {sorted(kinds) or 'nothing'}, "
        "expected ByteLevel, Metaspace or ByteFallback; use a Llama, Mistral or Qwen model."
    )


def byte_alphabet() -> dict[str, bytes]:
    """GPT-2's spelling of bytes: printable Latin-1 as itself, the other 68 as characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    pairs = [(chr(byte), byte) for byte in printable]
    pairs += [(chr(0x100 + i), byte) for i, byte in enumerate(others)]
    return {char: bytes([byte]) for char, byte in pairs}


BYTES = byte_alphabet()
PADDING = 1024  # the widest gap known among models of these families is 905 rows
