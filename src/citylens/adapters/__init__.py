"""The only input and output: images, arrays, tables, checkpoints, the tracker, data contracts, segmenters."""
