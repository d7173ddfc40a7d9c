"""Checks for texts from files: what may stand in tables, figures and messages."""

from __future__ import annotations

import re
import reprlib

from citylens.errors import InputError

# Control characters, characters that change the writing direction, and bytes of file names that are not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = re.compile(r"[=+\-@].")
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother, _BRIEF.maxlong = 3, 200, 200, 100
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = 20


def printable(text: str, where: str) -> str:
    """Return the text unchanged if tables and messages can show it.

    Args:
        where: what the error message begins with.

    Raises:
        InputError: the text has a control character (a line end would add a row to a table, an escape character would
            control a terminal), or it is a file name whose bytes are not UTF-8.
    """
    found = _UNPRINTABLE.search(text)
    if found:
        raise InputError(f"{where}: {shown(text)} has the character {found[0]!a}; allowed: printable text in UTF-8")
    return text


def label(text: str, where: str) -> str:
    """Return the name of a city or an object unchanged if tables, spreadsheets and figures can show it.

    Raises:
        InputError: the name is not printable, or a spreadsheet reads it as a formula or a figure as mathematics.
    """
    if _FORMULA.match(printable(text, where)) or "$" in text:
        raise InputError(f"{where}: {shown(text)} is no name; allowed: a first character other than = + - @, and no $")
    return text


def shown(value: object) -> str:
    """Return the value as a short text for a message, however long or deep the value is."""
    try:
        return _BRIEF.repr(value)
    except ValueError:  # Python refuses to print a whole number of more than 4300 digits.
        return "a number too long to show"
