"""What is known of models and hardware, as data; no torch."""
