"""Another server as an engine: what a reading may ask of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thermoscope.errors import InvalidRequest, UpstreamFailed
from thermoscope.laws.partial import Partial
from thermoscope.upstream.abilities import Abilities
from thermoscope.upstream.connection import Connection
from thermoscope.upstream.logprobs import Choice, choices
from thermoscope.upstream.probe import COUNTS, probe


@dataclass(frozen=True)
class Answer:
    """What was said, and the tokens of it as far as the server shows them."""

    text: str
    tokens: tuple[Choice, ...]


class Upstream:
    """One model of another server, and what it was found to be able to do."""

    def __init__(self, connection: Connection, abilities: Abilities) -> None:
        self.connection = connection
        self.abilities = abilities

    @property
    def name(self) -> str:
        """The model's name there."""
        return self.abilities.model

    def next(self, prompt: str, *, chat: bool) -> tuple[Choice, Partial]:
        """What may follow a prompt, in the model's own distribution, and what that says of the rest.

        Where two of the tokens have one text and only one is left of them, fewer are asked for.

        **Errors:** `InvalidRequest` where the server shows no alternatives; `UpstreamFailed`.
        """
        shown = self._shown(chat)
        if not shown:
            raise InvalidRequest(
                f"upstream: {self.name} shows no log-probabilities there, expected some; this reading needs "
                "them, or the local engine: start the server without --upstream."
            )
        for count in sorted({shown, *(each for each in COUNTS if each < shown)}, reverse=True):
            (answer,) = self.speak(prompt, chat=chat, shown=count, max_tokens=1, temperature=1, seed=0)
            partial = answer.tokens[0].partial(self.abilities.vocabulary) if answer.tokens else None
            if partial is not None:
                return answer.tokens[0], partial
        raise UpstreamFailed(
            f"upstream: got no list of the most probable tokens from {self.name} that is whole, expected "
            f"{shown} of them; ask for the same as a chat, or for another prompt."
        )

    def speak(self, prompt: str, *, chat: bool, shown: int | None = None, **sampling: Any) -> list[Answer]:
        """Answers to a prompt, with the log-probabilities of their tokens where there are any.

        `shown`: how many alternatives of each; None for all that the server shows. `sampling`: fields of the
        request, as `seed`, `max_tokens` and `temperature`.
        """
        shown = self._shown(chat) if shown is None else shown
        asked = {"model": self.name, "top_p": 1} | sampling
        if chat:
            body = asked | {"messages": [{"role": "user", "content": prompt}]}
            if shown:
                body |= {"logprobs": True, "top_logprobs": shown}
        else:
            body = asked | {"prompt": prompt} | ({"logprobs": shown} if shown else {})
        answer = self.connection.post("/chat/completions" if chat else "/completions", body)
        return [_answer(each, shown) for each in answer.get("choices") or ()]

    def _shown(self, chat: bool) -> int:
        """How many alternatives come with each token."""
        if not (self.abilities.chat if chat else self.abilities.completions):
            raise InvalidRequest(
                f"chat: got {'yes' if chat else 'no'}, expected {'no' if chat else 'yes'}, for {self.name} "
                f"answers {'no chats' if chat else 'only chats'}.",
                param="chat",
            )
        return self.abilities.top_logprobs if chat else self.abilities.completion_logprobs


def open_upstream(
    url: str, *, model: str | None = None, key: str | None = None, vocabulary: int | None = None
) -> Upstream:
    """Connect to a server and find out what it can do; `probe` says what the parameters are."""
    connection = Connection(url, key)
    return Upstream(connection, probe(connection, model, vocabulary))


def _answer(choice: Mapping[str, Any], shown: int) -> Answer:
    text = choice.get("text") or (choice.get("message") or {}).get("content") or ""
    return Answer(str(text), tuple(choices(choice.get("logprobs"), shown)))
