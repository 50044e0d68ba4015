"""How long inference takes: what a pass must read and compute, and how fast a device does that; no torch."""
