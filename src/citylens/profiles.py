"""params.yaml from a profile, with some values changed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from citylens import settings
from citylens.settings import InputError


def text(name: str, changes: Sequence[str] = ()) -> str:
    """params.yaml for a profile with some values changed; checked, and with its comments.

    Raises:
        InputError: unknown profile, or a change that params.yaml does not allow.
    """
    from ruamel.yaml import YAML

    known = sorted(path.stem for path in Path("profiles").glob("*.yaml"))
    if name not in known:
        allowed = ", ".join(known) or "none here: run citylens in the project's folder"
        raise InputError(f"unknown profile {name!r}; allowed: {allowed}")
    text = Path("profiles", f"{name}.yaml").read_text(encoding="utf-8")
    if not changes:
        settings.parse(settings.parse_yaml(text, f"profiles/{name}.yaml"))
        return text
    yaml, written = YAML(), io.StringIO()
    yaml.indent(mapping=2, sequence=4, offset=2)
    mapping = yaml.load(text)
    for change in changes:
        _change(mapping, change)
    yaml.dump(mapping, written)
    settings.parse(settings.parse_yaml(written.getvalue(), "params.yaml"))
    return written.getvalue()


def _change(mapping: Any, change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals:
        raise InputError(f"{change!r} is no change; allowed: KEY=VALUE, such as train.epochs=10")
    *sections, name = key.split(".")
    for section in sections:
        mapping = mapping.get(section) if isinstance(mapping, dict) else None
    if not isinstance(mapping, dict) or name not in mapping:
        raise InputError(f"unknown key {key}; allowed: the keys of params.yaml")
    mapping[name] = settings.parse_yaml(value, change)
