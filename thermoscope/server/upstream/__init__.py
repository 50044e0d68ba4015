"""The same addresses with another server as the engine."""
