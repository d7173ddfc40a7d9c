"""The gate: compare the working tree's metrics with those of a git revision."""
