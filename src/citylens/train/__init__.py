"""Stage train: one network with one seed."""
