"""Versions of data and code, as DVC and git record them."""
