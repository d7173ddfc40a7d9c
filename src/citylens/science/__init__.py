"""Pure computation: arrays, tensors and tables in, the same out."""
