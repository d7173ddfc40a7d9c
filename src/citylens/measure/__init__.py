"""Stage measure: how much of each object the networks use (R)."""
