"""Names as people type them: in any case, with any hyphens, and misspelt."""

from collections.abc import Mapping
from difflib import get_close_matches


def plain(name: str) -> str:
    """The name's letters and digits, in lower case: what two spellings of one name share."""
    return "".join(each for each in name.lower() if each.isalnum())


def nearest(name: str, known: Mapping[str, str]) -> str:
    """A clause that suggests names close to a misspelt one; `known` leads from plain names to real ones."""
    close = get_close_matches(plain(name), known, n=3, cutoff=0.5)
    names = list(dict.fromkeys(repr(known[each]) for each in close))
    return f"did you mean {' or '.join(names)}? " if names else ""
