"""What a model will cost, before it is loaded; no torch."""
