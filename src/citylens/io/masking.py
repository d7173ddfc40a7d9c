"""Texts to be printed, without passwords, keys and control characters."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote

MASK = "***"
SHORTEST = 6  # characters; shorter values occur in texts by chance
_SECRET_NAME = re.compile(r"PASSW|SECRET|TOKEN|CREDENTIAL|PRIVATE|API_?KEY", re.IGNORECASE)
# In a web address, a user's name alone may be a token.
_IN_ADDRESS = re.compile(r"(https?://|\w://(?=[^/\s'\"@]*:))[^/\s'\"]*@")
_WHOLE_ADDRESS = re.compile(r"\w://[^/\s:]*:(\S+)@")
_NAMED = re.compile(r"((?:password|passwd|pwd|secret|token|access_?key)\w*\s*[=:]\s*)[^\s&,;'\")]+", re.IGNORECASE)
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def masked(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the text with *** in place of secrets, and escapes in place of control characters (tabs and line ends stay).

    Secrets are the environment's passwords, tokens and keys, passwords in addresses, and values that the text calls `password`,
    `token` and the like.
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
