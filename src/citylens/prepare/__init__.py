"""Stage prepare: images of one size, and the splits."""
