"""What answers elsewhere? Another server behind OpenAI's API as an engine, and what can be seen of it."""
