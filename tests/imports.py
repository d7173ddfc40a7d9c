"""Which modules of the project a module reaches by import, read from the sources without running them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "src"
PACKAGES = ("citylens", "streetscenes")


@cache
def direct(module: str) -> frozenset[str]:
    """Return the project's modules that a module imports: at its head, inside a function, or for type checking only."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return frozenset(name for name in found if name.split(".")[0] in PACKAGES and file(name).is_file())


def tree(module: str) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(file(module).read_text())


def file(module: str) -> Path:
    """Return the file that a module's name stands for."""
    return SOURCES / (module.replace(".", "/") + ".py")


def reached(module: str, aside: tuple[str, ...] = ()) -> set[str]:
    """Return the module and all that it reaches, without going through the packages or modules set aside."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and not f"{name}.".startswith(tuple(f"{one}." for one in aside)):
            found.add(name)
            waiting += direct(name)
    return found


def modules(package: str) -> list[str]:
    """Return the names of all modules of a package."""
    files = sorted((SOURCES / package).rglob("*.py"))
    return [".".join(file.relative_to(SOURCES).with_suffix("").parts) for file in files if file.name != "__init__.py"]
