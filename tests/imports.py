"""Which modules of the project a module reaches by import, read from the sources without running them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "src"


@cache
def direct(module: str) -> frozenset[str]:
    """Modules of the project that a module imports, at its head or inside a function, for type checking alone too."""
    path = SOURCES / (module.replace(".", "/") + ".py")
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return frozenset(name for name in found if name.startswith("citylens.") and is_module(name))


def is_module(name: str) -> bool:
    return (SOURCES / (name.replace(".", "/") + ".py")).is_file()


def reached(module: str, aside: frozenset[str] = frozenset()) -> set[str]:
    """The module and all that it reaches, without going through the modules set aside."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and name not in aside:
            found.add(name)
            waiting += direct(name)
    return found


def modules() -> list[str]:
    """Every module of the project."""
    files = sorted((SOURCES / "citylens").rglob("*.py"))
    return [".".join(file.relative_to(SOURCES).with_suffix("").parts) for file in files if file.name != "__init__.py"]
