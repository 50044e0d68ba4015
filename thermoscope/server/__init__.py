"""Who may ask? The OpenAI API over HTTP, and the page beside it."""
