"""Read YAML files by the rules that DVC uses."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import yaml

from citylens.errors import InputError

MOST_VALUES = 1_000_000  # in one file; the values of an alias count each time it is used

_CONFLICT = re.compile(r"^(?:<{7}|={7}|>{7}|\|{7})(?: |\r?$)", re.MULTILINE)
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN = {
    "bool": r"true|True|TRUE|false|False|FALSE",
    "null": r"~|null|Null|NULL|",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}


class _Loader(yaml.composer.Composer, _Base):
    """Loader with YAML 1.2's plain values, as in DVC: 1e-05 is a number, `no` and 12:30 are texts.

    PyYAML composes the nodes in Python: beyond the recursion limit that raises an error, where libyaml crashes.
    """

    yaml_implicit_resolvers: ClassVar[dict[None, Any]] = {  # None: for values that begin with any character
        None: [(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$")) for tag, pattern in _PLAIN.items()]
    }

    def __init__(self, text: str) -> None:
        _Base.__init__(self, text)
        yaml.composer.Composer.__init__(self)

    def construct_document(self, node: yaml.Node) -> Any:
        if _values(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values")
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        doubled = [name for name, count in names.items() if count > 1]
        if doubled:  # PyYAML would silently take the last; DVC refuses the file.
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: key {doubled[0]!r} stands twice in one mapping")
        return super().construct_mapping(node, deep)


def _values(node: yaml.Node, known: dict[int, float]) -> float:
    """Return how many values a node stands for: an alias counts each time, one that contains itself infinitely often."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")
        parts = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def refuse_conflict(text: str, where: Path | str) -> None:
    """Check that a text has no line with which git marks the sides of a conflict.

    Raises:
        InputError: it has; names the line.
    """
    if found := _CONFLICT.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise InputError(
            f"{where}: line {line} is git's mark of a conflict; allowed: one side (docs/operations/remotes.md)"
        )


def parse_yaml(text: str, where: Path | str) -> Any:
    """Return the value of a YAML text.

    Args:
        where: what the error message begins with.

    Raises:
        InputError: the text is not YAML, or its aliases stand for more than `MOST_VALUES` values.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
    except Exception as error:  # PyYAML's constructors raise errors of any kind on an invalid value.
        refuse_conflict(text, where)
        raise InputError(f"{where}: not YAML: {type(error).__name__}: {error}") from None


def read_yaml(path: Path | str) -> Any:
    """Return the value of a YAML file.

    Raises:
        InputError: the file is not YAML in UTF-8, or cannot be read.
        FileNotFoundError: the file does not exist.
    """
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"), path)
    except (UnicodeDecodeError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8: {error}") from None


def read_optional_yaml(path: Path | str) -> Any:
    """Return the value of a YAML file, or None if the file does not exist.

    Raises:
        InputError: the file is not YAML in UTF-8, or cannot be read.
    """
    return read_yaml(path) if Path(path).exists() else None
