"""How fast the engine is, and why: decoding timed, a step taken apart, memory's limit, and peers."""
