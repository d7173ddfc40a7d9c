"""Chance levels, tests and intervals that several stages compute with: arrays in, arrays out."""
