"""Write params.yaml from a profile: the demo, the profile's differences from it, and the user's changes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from citylens.errors import InputError
from citylens.io.yaml_files import parse_yaml
from citylens.settings import parser

FOLDER, DEMO = Path("profiles"), "demo"


def text(name: str, changes: Sequence[str] = ()) -> str:
    """Return the params.yaml of a profile, with the demo's comments.

    Args:
        name: a file in profiles/, without its ending; `demo` holds every key, the others only what differs from it.
        changes: `KEY=VALUE`, with dots between the levels of a key.

    Raises:
        InputError: the profile is unknown, it or a change names an unknown key, or a value is not allowed.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if name not in known:
        allowed = ", ".join(known) or "none here: run citylens in the project's folder"
        raise InputError(f"unknown profile {name!r}; allowed: {allowed}")
    demo = (FOLDER / f"{DEMO}.yaml").read_text(encoding="utf-8")
    written = demo if name == DEMO and not changes else _changed(demo, name, changes)
    parser.parse(parse_yaml(written, f"profiles/{name}.yaml"))
    return written


def _changed(demo: str, name: str, changes: Sequence[str]) -> str:
    from ruamel.yaml import YAML

    yaml, written = YAML(), io.StringIO()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 1000  # No line is broken.
    yaml.representer.add_representer(type(None), lambda own, _: own.represent_scalar("tag:yaml.org,2002:null", "null"))
    mapping = yaml.load(demo)
    if name != DEMO:
        file = FOLDER / f"{name}.yaml"
        if not isinstance(parse_yaml(file.read_text(encoding="utf-8"), file), dict):
            raise InputError(f"{file}: not a mapping; allowed: sections and keys of {FOLDER / DEMO}.yaml")
        overlay = yaml.load(file)
        _merge(mapping, overlay, "", file)
        mapping.ca.comment = overlay.ca.comment  # the comment at the head of the file
    for change in changes:
        _change(mapping, change)
    yaml.dump(mapping, written)
    return written.getvalue()


def _merge(mapping: Any, overlay: Any, where: str, file: Path) -> None:
    """Put the values of a profile into the demo's mapping; a list, or a mapping that the demo leaves empty, is replaced."""
    for name, value in overlay.items():
        if name not in mapping:
            raise InputError(f"{file}: unknown key {where}{name}; allowed: the keys of {FOLDER / DEMO}.yaml")
        if isinstance(value, Mapping) and isinstance(mapping[name], Mapping) and mapping[name]:
            _merge(mapping[name], value, f"{where}{name}.", file)
        else:
            mapping[name] = value


def _change(mapping: Any, change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals:
        raise InputError(f"{change!r} is no change; allowed: KEY=VALUE, such as train.epochs=10")
    *sections, name = key.split(".")
    for section in sections:
        mapping = mapping.get(section) if isinstance(mapping, dict) else None
    if not isinstance(mapping, dict) or name not in mapping:
        raise InputError(f"unknown key {key}; allowed: the keys of params.yaml")
    mapping[name] = parse_yaml(value, change)
    if name == "path" and value.startswith("~/"):  # DVC does not know the sign for one's own folder.
        mapping[name] = str(Path(value).expanduser())
