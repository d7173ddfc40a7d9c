"""The settings of a profile, for tests in any folder."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import yaml

from citylens.settings import parser, profiles
from citylens.settings.schema import Settings

ROOT = Path(__file__).parents[1]


def text(profile: str) -> str:
    """Return the params.yaml that `citylens use` writes."""
    with contextlib.chdir(ROOT):
        return profiles.text(profile)


def mapping(profile: str) -> dict[str, Any]:
    """Return a profile's params.yaml as a mapping, to change."""
    values: dict[str, Any] = yaml.safe_load(text(profile))
    return values


def settings(profile: str) -> Settings:
    """Return a profile's settings."""
    return parser.parse(mapping(profile))
