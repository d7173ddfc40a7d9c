"""Texts before they are printed: without passwords and keys, and without what a terminal would obey."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote

MASK = "***"
SHORTEST = 6  # characters; what is shorter stands in texts by chance
_SECRET_NAME = re.compile(r"PASSW|SECRET|TOKEN|CREDENTIAL|PRIVATE|API_?KEY", re.IGNORECASE)
# Of a web address, a name alone may be a token.
_IN_ADDRESS = re.compile(r"(https?://|\w://(?=[^/\s'\"@]*:))[^/\s'\"]*@")
_WHOLE_ADDRESS = re.compile(r"\w://[^/\s:]*:(\S+)@")
_NAMED = re.compile(r"((?:password|passwd|pwd|secret|token|access_?key)\w*\s*[=:]\s*)[^\s&,;'\")]+", re.IGNORECASE)
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def masked(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text with *** for secrets: those the environment names, passwords in addresses, and values called password or the like.

    Control characters other than tabs and line ends become their escapes.
    """
    for secret in sorted(_secrets(environment), key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _NAMED.sub(rf"\1{MASK}", _IN_ADDRESS.sub(rf"\1{MASK}@", text))
    return _OBEYED.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        found = [value] if _SECRET_NAME.search(name) else _WHOLE_ADDRESS.findall(value)
        for secret in found:
            yield from (form for form in {secret, quote(secret, safe=""), unquote(secret)} if len(form) >= SHORTEST)
