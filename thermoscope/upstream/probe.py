"""Another server is asked what it can do: some short requests, each of a few tokens."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from thermoscope.errors import InvalidRequest, UpstreamFailed, UpstreamUnreachable
from thermoscope.upstream.abilities import Abilities, Meaning
from thermoscope.upstream.connection import Connection
from thermoscope.upstream.failure import TIMED_OUT
from thermoscope.upstream.logprobs import Choice, choices

COUNTS = (1000, 20, 5, 2)  # alternatives that are asked for, until a server agrees
TRIES = 5  # of one question, where an answer ends with its first token, which shows nothing
PATIENCE = 60  # seconds for one of them: vLLM's first chat on a CPU took 26
PROMPT = "The capital of France is"
QUESTION = "What is the weather in Paris?"
COLD = 0.5  # the temperature that tells the two meanings apart
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
HOW = {"required": "required", "named": {"type": "function", "function": {"name": "weather"}}}


def probe(connection: Connection, model: str | None = None, vocabulary: int | None = None) -> Abilities:
    """Ask a server what it can do.

    `model`: one of its models, None where it has only one. `vocabulary`: how many tokens it has, where it
    does not say so itself.

    **Errors:** `UpstreamFailed` where it cannot be reached or has no models; `InvalidRequest` for a model
    that it does not have.
    """
    card = _card(connection, model)
    name, about, served = str(card["id"]), _within(card, "meta"), _within(card, "metadata")
    asked = {"model": name, "temperature": 1, "top_p": 1}

    def chat(said: str = PROMPT, **fields: Any) -> dict[str, Any] | None:
        messages = [{"role": "user", "content": said}]
        return _tried(
            connection, "/chat/completions", asked | {"messages": messages, "max_tokens": 1} | fields
        )

    def complete(**fields: Any) -> dict[str, Any] | None:
        return _tried(connection, "/completions", asked | {"prompt": PROMPT, "max_tokens": 1} | fields)

    speaks, completes = chat() is not None, complete() is not None
    if not speaks and not completes:
        raise UpstreamFailed(f"upstream: {name} at {connection.url} answers neither a chat nor a prompt.")
    ask: Callable[..., dict[str, Any] | None] = complete if completes else chat
    by_chat = _most(lambda count: chat(logprobs=True, top_logprobs=count)) if speaks else 0
    by_prompt = _most(lambda count: complete(logprobs=count)) if completes else 0
    if by_prompt:
        seen = [_shown(partial(complete, logprobs=by_prompt, temperature=each)) for each in (1, COLD)]
    else:
        seen = [
            _shown(partial(chat, logprobs=True, top_logprobs=by_chat, temperature=each)) for each in (1, COLD)
        ]
    texts = [_text(ask(seed=7, max_tokens=12)) for _ in range(2)]
    two = ask(n=2)
    return Abilities(
        model=name,
        server=str(card.get("owned_by") or "unknown"),
        context=card.get("max_model_len") or about.get("n_ctx") or served.get("max_request_context_length"),
        vocabulary=vocabulary or about.get("n_vocab"),
        chat=speaks,
        completions=completes,
        top_logprobs=by_chat,
        completion_logprobs=by_prompt,
        logprobs=_meaning(*seen),
        streamed_logprobs=_streams(connection, asked, speaks, by_chat if speaks else by_prompt),
        n=two is not None and len(two.get("choices", ())) == 2,
        seed=texts[0] is not None and texts[0] == texts[1],
        tools=tuple(
            how
            for how, choice in HOW.items()
            if speaks and _calls(chat(QUESTION, tools=[TOOL], tool_choice=choice, max_tokens=64))
        ),
    )


def _card(connection: Connection, model: str | None) -> Mapping[str, Any]:
    listed = connection.get("/models").get("data")
    cards = [each for each in listed or () if isinstance(each, dict) and "id" in each]
    names = [str(each["id"]) for each in cards]
    if not cards:
        raise UpstreamFailed(f"upstream: {connection.url}/models lists no model; load one there.")
    if model is None and len(cards) > 1:
        raise InvalidRequest(
            f"upstream: got {len(cards)} models at {connection.url}, expected the name of one in "
            f"--upstream-model: {', '.join(names)}.",
            param="upstream_model",
        )
    for card, name in zip(cards, names, strict=True):
        if model is None or model == name:
            return card
    raise InvalidRequest(
        f"upstream_model: got {model!r}, expected one of {', '.join(names)}.", param="upstream_model"
    )


def _within(card: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key, an empty one where there is none."""
    inner = card.get(key)
    return inner if isinstance(inner, dict) else {}


def _tried(connection: Connection, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer, or None where the server refuses, fails at this or never ends; it must be there, though."""
    try:
        return connection.post(path, body, PATIENCE)
    except UpstreamFailed as error:
        if isinstance(error, UpstreamUnreachable) and error.status != TIMED_OUT:
            raise
        return None


def _most(ask: Callable[[int], dict[str, Any] | None]) -> int:
    """How many alternatives come, of the first count that is agreed to."""
    for count in COUNTS:
        first = _shown(partial(ask, count))
        if first is not None and first.best:
            return min(count, len(first.best))  # the chosen token may stand there beside them
    return 0


def _shown(ask: Callable[[], dict[str, Any] | None]) -> Choice | None:
    """The first token that an answer shows, None where the server refuses or shows none of what it says."""
    for _ in range(TRIES):
        answer = ask()
        first = _first(answer)
        if first is not None or not _ended_at_once(answer):
            return first
    return None


def _ended_at_once(answer: Mapping[str, Any] | None) -> bool:
    ends = [choice.get("finish_reason") for choice in (answer or {}).get("choices", ())]
    return "stop" in ends and not _text(answer)


def _first(answer: Mapping[str, Any] | None) -> Choice | None:
    """The first token of an answer."""
    for choice in (answer or {}).get("choices", ()):
        for token in choices(choice.get("logprobs")):
            return token
    return None


def _text(answer: Mapping[str, Any] | None) -> str | None:
    """What an answer says, or a piece of one."""
    for choice in (answer or {}).get("choices", ()):
        message = choice.get("message") or choice.get("delta") or {}
        return str(choice.get("text") or message.get("content") or "")
    return None


def _calls(answer: Mapping[str, Any] | None) -> bool:
    """Whether an answer calls a tool."""
    return any(
        (choice.get("message") or {}).get("tool_calls") for choice in (answer or {}).get("choices", ())
    )


def _meaning(warm: Choice | None, cold: Choice | None) -> Meaning:
    """How the gaps between log-probabilities grow from T = 1 to T = 1/2: not at all, or to double.

    The slope of the line through the origin, by least squares, over the tokens that both answers show.
    """
    if warm is None or cold is None:
        return "unknown"
    one, other = ({each.text: each.logprob for each in seen.best} for seen in (warm, cold))
    best = max(one.keys() & other.keys(), key=one.__getitem__, default=None)
    if best is None:
        return "unknown"
    pairs = [(one[text] - one[best], other[text] - other[best]) for text in one.keys() & other.keys()]
    spread = sum(gap**2 for gap, _ in pairs)
    if not spread:
        return "unknown"
    slope = sum(gap * colder for gap, colder in pairs) / spread
    meanings: dict[Meaning, float] = {"raw": 1.0, "tempered": 1 / COLD}
    return next((name for name, ideal in meanings.items() if abs(slope - ideal) < 0.2), "unknown")


def _streams(connection: Connection, asked: Mapping[str, Any], speaks: bool, count: int) -> bool:
    """Whether the pieces of a stream carry log-probabilities."""
    if not count:
        return False
    if speaks:
        path, what = (
            "/chat/completions",
            {"messages": [{"role": "user", "content": PROMPT}], "logprobs": True},
        )
        what["top_logprobs"] = min(count, 5)
    else:
        path, what = "/completions", {"prompt": PROMPT, "logprobs": min(count, 5)}
    body = dict(asked) | what | {"max_tokens": 2, "stream": True}
    try:
        for _ in range(TRIES):
            pieces = connection.pieces(path, body)
            if any(_first(piece) is not None for piece in pieces):
                return True
            if any(_text(piece) for piece in pieces):
                break
        return False
    except UpstreamUnreachable:
        raise
    except UpstreamFailed:
        return False
