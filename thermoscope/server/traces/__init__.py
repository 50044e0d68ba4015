"""/v1/traces: what an answer's every step was, for who asked to have it kept."""
