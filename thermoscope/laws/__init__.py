"""The laws: pure functions on arrays, in float64, with no model in sight."""
