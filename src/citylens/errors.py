"""Errors that the user can act on; the command prints their message without a traceback."""

from __future__ import annotations


class InputError(ValueError):
    """The user's input cannot be used; the message says what was found, where, and what is allowed."""

    status = 1
    """Exit status of the command."""


class Incomparable(InputError):
    """Two things that should be compared cannot be; the message says why."""

    status = 2
