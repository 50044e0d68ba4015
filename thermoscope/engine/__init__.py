"""Request -> scheduler -> forward -> sampler -> Step -> Trace."""
