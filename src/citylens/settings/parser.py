"""Read params.yaml into the settings' dataclasses; errors name the key that is unknown, missing or not allowed."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from citylens.errors import InputError
from citylens.io.texts import plain, shown
from citylens.io.yaml_files import read_yaml
from citylens.settings.schema import Settings, refused


def load(path: Path | str = "params.yaml") -> Settings:
    """Return the settings in a YAML file.

    Raises:
        InputError: the file is missing or not YAML, or a key is unknown, missing or has a value that is not allowed.
    """
    try:
        return parse(read_yaml(path))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; run citylens in the project's folder, or write it with `citylens use demo`"
        ) from None


def parse(mapping: object) -> Settings:
    """Return the settings in a parsed params.yaml.

    Raises:
        InputError: a key is unknown, missing or has a value that is not allowed.
    """
    return typing.cast(Settings, _section(Settings, mapping, ""))


def _section(kind: type, mapping: object, where: str) -> Any:
    if not isinstance(mapping, Mapping):
        raise refused(where.rstrip(".") or "the file", mapping, "a mapping of settings")
    hints = _hints(kind)
    for key in mapping:
        if key not in hints:
            name = key[:100] if isinstance(key, str) else shown(key)
            close = difflib.get_close_matches(name, hints, n=1)
            meant = f"; did you mean {close[0]}? Allowed" if close else "; allowed"
            raise InputError(f"params.yaml: unknown key {where}{name}{meant}: {', '.join(hints)}")
    for field in dataclasses.fields(kind):
        if field.name not in mapping and field.default is dataclasses.MISSING:
            raise InputError(
                f"params.yaml: missing key {where}{field.name}; `citylens use demo` writes one with all of them"
            )
    return kind(**{name: _value(hint, mapping[name], where + name) for name, hint in hints.items() if name in mapping})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _value(hint: Any, value: object, key: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _section(typing.cast(type, hint), value, key + ".")
    if origin is Annotated:
        found = _value(arguments[0], value, key)
        if found not in arguments[1]:
            raise refused(key, list(found) if isinstance(found, tuple) else found, arguments[1])
        return found
    if origin is Literal:
        if value not in arguments:
            raise refused(key, value, ", ".join(map(str, arguments)))
        return value
    if origin is types.UnionType:  # of a plain type, and None or a tuple
        if value is None and type(None) in arguments:
            return None
        return _value(arguments[isinstance(value, list) and get_origin(arguments[1]) is tuple], value, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise refused(key, value, "a list")
        return tuple(_value(arguments[0], item, f"{key}[{place}]") for place, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise refused(key, value, "a mapping of texts")
        return {
            plain(name, f"params.yaml: {key}"): _value(arguments[1], item, f"{key}.{name}")
            for name, item in value.items()
        }
    return _plain(hint, value, key)


def _plain(kind: type, value: object, key: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1 << 1000 else float("inf")
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        said = {
            int: "a whole number",
            float: "a number",
            str: "text, in quotes where YAML would read something else",
            bool: "true, false",
        }[kind]
        raise refused(key, value, said)
    if isinstance(value, float) and value != value:
        raise InputError(f"params.yaml: {key} is NaN; allowed: a number")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise refused(key, value, "a whole number of 64 bits")
    return plain(value, f"params.yaml: {key}") if isinstance(value, str) else value
