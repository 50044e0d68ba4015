"""The model's logits, with some of them changed: cheap to change, and in float64 only where one looks."""

from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int


class Logits:
    """A row of logits.

    `row`: the model's own. `touched`: which of them were changed, rising. `values`: what they are now.
    `ids`: the tokens that the row is of, rising; None for the whole vocabulary.
    """

    def __init__(
        self,
        row: Float[np.ndarray, "vocab"],
        touched: Int[np.ndarray, "some"],
        values: Float[np.ndarray, "some"],
        ids: Int[np.ndarray, "vocab"] | None = None,
    ) -> None:
        self.row = row
        self.touched = touched
        self.values = values
        self.ids = ids

    @cached_property
    def all(self) -> Float[np.ndarray, "vocab"]:
        """Every logit."""
        logits: Float[np.ndarray, "vocab"] = self.row.astype(np.float64)
        logits[self.touched] = self.values
        return logits

    def at(self, ids: Int[np.ndarray, "ids"]) -> Float[np.ndarray, "ids"]:
        """The logits of some tokens."""
        logits: Float[np.ndarray, "ids"] = self.row[ids].astype(np.float64)
        if len(self.touched):
            held = among(ids, self.touched)
            logits[held] = self.values[self.touched.searchsorted(ids[held])]
        return logits

    def only(self, allowed: Int[np.ndarray, "allowed"]) -> "Logits":
        """The logits of these tokens of a whole vocabulary, which rise, and of no other."""
        held = among(self.touched, allowed)
        touched = allowed.searchsorted(self.touched[held])
        return Logits(self.row[allowed], touched, self.values[held], allowed)

    def tokens(self, members: Int[np.ndarray, "kept"] | None) -> Int[np.ndarray, "kept"] | None:
        """The ids of some members of the row; None for all, in both."""
        if self.ids is None:
            return members
        return self.ids if members is None else self.ids[members]


def among(ids: Int[np.ndarray, "ids"], members: Int[np.ndarray, "some"]) -> Bool[np.ndarray, "ids"]:
    """Which of the ids are members, which rise; there must be some."""
    at = np.minimum(members.searchsorted(ids), len(members) - 1)
    held: Bool[np.ndarray, "ids"] = members[at] == ids
    return held
