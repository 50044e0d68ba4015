"""Functions that a model may call: what a request offers, and the calls in an answer."""
