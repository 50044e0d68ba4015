"""The tokenizer that a GGUF header describes, built with the `tokenizers` library.

A header holds the vocabulary, its merges or scores, and the *name* of a pre-tokenizer; what the name means
is fixed by llama.cpp. Where llama.cpp approximates the model's own regular expression, the original stands
here.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from thermoscope.catalogue.files import reading
from thermoscope.errors import BadModelFile, UnsupportedModel
from thermoscope.models import tokenizer as ours
from thermoscope.models.chat_template import ChatTemplate

UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # tokenizer.ggml.token_type

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = rf"{_WORDS}|\p{{N}}|{_REST}"
LLAMA3 = rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*")
_CASED_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
TEKKEN = rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}|{_CASED_REST}"
GPT4O = rf"{_CASED[0]}{_SUFFIX}|{_CASED[1]}{_SUFFIX}|\p{{N}}{{1,3}}|{_CASED_REST}"
_CJK = "[一-龥ࠀ-一가-퟿]+"


class Pre(NamedTuple):
    """A pre-tokenizer: expressions that cut the text one after the other, and what comes with them."""

    cuts: tuple[str, ...]
    whole_first: bool = False  # a word that is a token stays whole, whatever the merges say
    bos: bool = False
    nfc: bool = False


_NAMES = {
    Pre((GPT2,)): "gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 mellum modern-bert gigachat",
    Pre((r"\p{N}", GPT2)): "smollm starcoder refact command-r codeshell exaone minerva-7b",
    Pre((r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")): "default",
    Pre((r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]")): "falcon",
    Pre((LLAMA3,), whole_first=True, bos=True): "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral lfm2",
    Pre((LLAMA3,)): "dbrx smaug-bpe glm4 chatglm-bpe",
    Pre((QWEN2,), nfc=True): "qwen2 deepseek-r1-qwen",
    Pre((QWEN2,)): "stablelm2 hunyuan megrez kormo grok-2",
    Pre((TEKKEN,), whole_first=True, bos=True): "tekken",
    Pre((GPT4O,)): "gpt-4o llama4 kanana2 minimax-m2",
    Pre(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")): "deepseek-coder",
}
PRE_TOKENIZERS = {name: pre for pre, names in _NAMES.items() for name in names.split()}


def gguf_tokenizer(metadata: Mapping[str, Any], *, rows: int, where: str) -> ours.Tokenizer:
    """Build the tokenizer of a GGUF header for an embedding of so many rows.

    **Errors:** `UnsupportedModel` for a kind of tokenizer or a pre-tokenizer that is not known here;
    `BadModelFile` where tokens are missing, double, or named by ids that do not exist.
    """
    fields = {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}
    kind = fields.get("model")
    if kind not in ("gpt2", "llama"):
        raise UnsupportedModel(
            f"{where}: tokenizer.ggml.model: got {kind!r}, expected 'gpt2' (byte-level BPE) or 'llama' "
            "(SentencePiece); take a GGUF of a Llama, Mistral or Qwen model."
        )
    with reading(f"{where}: tokenizer"):
        tokens: list[str] = fields["tokens"]
        _check_tokens(tokens, rows, where)
        core, bos_wanted = _byte_level(fields, where) if kind == "gpt2" else _sentencepiece(fields)
        types: list[int] = fields.get("token_type") or [1] * len(tokens)
        typed = list(zip(tokens, types, strict=True))
        control = [content for content, type_ in typed if type_ in (UNKNOWN, CONTROL)]
        whole = [content for content, type_ in typed if type_ == USER_DEFINED]
        core.add_special_tokens([AddedToken(content, normalized=False, special=True) for content in control])
        core.add_tokens([AddedToken(content, normalized=False, special=False) for content in whole])
        ends = {name: fields.get(f"{name}_token_id") for name in ("eos", "eot", "eom")}
        bos = fields.get("bos_token_id", 1 if kind == "llama" else None)
        ours.check_ids(core, {**ends, "bos": bos}, rows, where)
        source = metadata.get("tokenizer.chat_template")
        template = source and ChatTemplate(
            source, bos=_named(tokens, bos), eos=_named(tokens, fields.get("eos_token_id"))
        )
        return ours.Tokenizer(
            core,
            end_ids=[token for token in ends.values() if token is not None],
            bos=bos if fields.get("add_bos_token", bos_wanted) else None,
            template=template or None,
        )


def _check_tokens(tokens: list[str], rows: int, where: str) -> None:
    if len(tokens) != rows:
        raise BadModelFile(
            f"{where}: got {len(tokens)} tokens, expected {rows} as the embedding has rows; "
            "fetch the file again."
        )
    if len(set(tokens)) != len(tokens):
        seen: set[str] = set()
        double = next(token for token in tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
        raise BadModelFile(f"{where}: got token {double!r} twice, expected it once; fetch the file again.")


def _byte_level(fields: Mapping[str, Any], where: str) -> tuple[Tokenizer, bool]:
    name = fields.get("pre", "default")
    if name not in PRE_TOKENIZERS:
        known = ", ".join(sorted(PRE_TOKENIZERS))
        raise UnsupportedModel(
            f"{where}: tokenizer.ggml.pre: got {name!r}, expected one of {known}; "
            "take the model as a folder with its tokenizer.json."
        )
    pre = PRE_TOKENIZERS[name]
    vocabulary = {token: i for i, token in enumerate(fields["tokens"])}
    merges = [(left, right) for left, right in (merge.split(" ") for merge in fields["merges"])]
    core = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre.whole_first))
    if pre.nfc:
        core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(cut), behavior="isolated") for cut in pre.cuts),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    return core, pre.bos


def _sentencepiece(fields: Mapping[str, Any]) -> tuple[Tokenizer, bool]:
    tokens, types = fields["tokens"], fields.get("token_type", [])
    unknown = next((token for token, type_ in zip(tokens, types, strict=False) if type_ == UNKNOWN), None)
    core = Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(tokens)},
            _merges(tokens, fields["scores"]),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback="<0x00>" in tokens,
        )
    )
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", ours.SPACE)]
    last: list[decoders.Decoder] = []
    if fields.get("add_space_prefix", True):
        steps.insert(0, normalizers.Prepend(ours.SPACE))
        last.append(decoders.Strip(" ", 1, 0))
    core.normalizer = normalizers.Sequence(steps)
    core.decoder = decoders.Sequence(
        [decoders.Replace(ours.SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *last]
    )
    return core, True


def _merges(tokens: list[str], scores: list[float]) -> list[tuple[str, str]]:
    """SentencePiece joins the neighbours that make the token of the highest score: so merges, best first."""
    known = set(tokens)
    best_first = sorted(range(len(tokens)), key=lambda i: -scores[i])
    return [
        (token[:cut], token[cut:])
        for token in (tokens[i] for i in best_first)
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]


def _named(tokens: list[str], token: int | None) -> str:
    return "" if token is None else tokens[token]
