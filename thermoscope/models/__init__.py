"""The network and its files: a name or a path -> tokenizer, weights, decoder."""
