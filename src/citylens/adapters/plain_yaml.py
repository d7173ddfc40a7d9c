"""YAML as DVC reads it. PyYAML by itself follows an older YAML, in which 1e-05 is a text and `no` is false."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from citylens.settings import InputError


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2's plain values, as DVC reads them: 1e-05 is a number, `no` and 12:30 are texts."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, ""] if _tag == "null" else list(_first)
    )


def read_yaml(path: Path | str) -> Any:
    """A YAML file as DVC reads it; None where there is none.

    Raises:
        InputError: no YAML.
    """
    try:
        return yaml.load(Path(path).read_text(), _Loader)
    except FileNotFoundError:
        return None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
