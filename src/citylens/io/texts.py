"""Checks for texts from files: what may stand in tables, figures and messages."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Iterable

from citylens.errors import InputError

# Control characters, characters that change the writing direction, and bytes of file names that are not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKUP = re.compile(r"[<>]")
_NO_NAME = re.compile(r"[=+\-@].|.*[$<>&]|$")
# Characters that show nothing: those of the category Cf and these. Joiners, which shape letters in some scripts, stay in a name.
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
_JOINERS = "\u200c\u200d"
_SELECTORS = re.compile(f"[{_JOINERS}\ufe00-\ufe0f]")
# Letters of the Cyrillic and Greek scripts, dashes and apostrophes that look like those of ASCII.
_TWINS = str.maketrans("авекмнорстухіјѕԁοαρνικτυχ’‘ʼ`‐‑‒–—−", "abekmhopctyxijsdoapviktux" + "'" * 4 + "-" * 6)  # noqa: RUF001
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


def plain(text: str, where: str) -> str:
    """Return the text unchanged if pages can show it too, such as those of DVC, which do not encode what they insert.

    Raises:
        InputError: the text is not printable, or has a < or a >.
    """
    if _MARKUP.search(printable(text, where)):
        raise InputError(f"{where}: {shown(text)} has a character of HTML; allowed: no < and no >")
    return text


def label(text: str, where: str) -> str:
    """Return the normal form of the name of a city or an object if tables, spreadsheets, figures and pages can show it.

    Raises:
        InputError: the name is not printable, or shows nothing; or a spreadsheet reads it as a formula, a figure as mathematics,
            or a page as HTML.
    """
    name = normal(printable(text, where))
    if _NO_NAME.match(name):
        allowed = "a first character other than = + - @, and none of $ < > &"
        raise InputError(f"{where}: {shown(text)} is no name; allowed: {allowed}")
    return name


def normal(text: str) -> str:
    """Return the text in Unicode's form NFC, without characters that show nothing, and with single spaces between words only."""
    if not text.isascii():
        composed = unicodedata.normalize("NFC", text)
        text = "".join(char for char in composed if char in _JOINERS or not _shows_nothing(char))
    return " ".join(text.split())


def alike(text: str) -> str:
    """Return a key that is the same for two names that a reader cannot tell apart, or that differ in upper and lower case only."""
    return normal(_SELECTORS.sub("", unicodedata.normalize("NFKC", text).casefold().translate(_TWINS)))


def check_different(names: Iterable[str], where: str) -> None:
    """Check that a reader can tell all names apart.

    Raises:
        InputError: begins with `where`, and names two that look alike.
    """
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(alike(name), name)
        if other != name:
            raise InputError(f"{where}: {other!a} and {name!a} look alike; allowed: one spelling, or names that differ")


def _shows_nothing(char: str) -> bool:
    return char in _BLANK or unicodedata.category(char) == "Cf"


def shown(value: object) -> str:
    """Return the value as a short text for a message, however long or deep the value is."""
    try:
        return _BRIEF.repr(value)
    except ValueError:  # Python refuses to print a whole number of more than 4300 digits.
        return "a number too long to show"
