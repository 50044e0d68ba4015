"""A tokenizer as llguidance sees it: each token's bytes, which of them are no text, how a text is spelled."""

import llguidance

from thermoscope.models.tokenizer import Tokenizer

GUARD = "\x02"  # in front of a text, it takes the space that some tokenizers put there


def vocabulary(tokenizer: Tokenizer, rows: int) -> llguidance.LLTokenizer:
    """The vocabulary of so many rows of logits; those behind the tokenizer's last id are never text.

    llguidance's own reader of tokenizers would spell a text that looks like a control token as that token.
    """
    words = llguidance.TokenizerWrapper(_Words(tokenizer, rows))
    return llguidance.LLTokenizer(words, eos_token=sorted(tokenizer.end_ids))


class _Words:
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, rows: int) -> None:
        self.special_token_ids = [token for token in range(rows) if tokenizer.is_control(token)]
        self.tokens = [tokenizer.bytes_of(token) for token in range(rows)]
        for token in self.special_token_ids:
            self.tokens[token] = tokenizer.piece(token).encode()
        self.eos_token_id = min(tokenizer.end_ids)
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        """How a text is spelled, asked where a grammar leaves one way to go on: the mask leaves no other.

        No ids at all leave every token that may begin it.
        """
        wanted = text.encode()
        for before in ("", GUARD):
            ids = self._tokenizer.encode(before + text)
            spelled = [self.tokens[token] for token in ids]
            for start in range(min(3, len(ids))):
                if b"".join(spelled[start:]) == wanted:
                    return ids[start:]
        return []
