"""Stage embed: the masks in the plane (t-SNE)."""
