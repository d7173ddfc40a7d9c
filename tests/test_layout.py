"""Imports run one way, and every DVC stage depends on exactly the modules its code reaches."""

from __future__ import annotations

import ast
from pathlib import Path

import imports
import pytest
import yaml

ROOT = imports.SOURCES.parent
ASIDE = frozenset({"citylens.settings", "citylens.adapters.tracker"})
MAY_IMPORT = {
    "stages": {"adapters", "science", "settings"},
    "science": {"science"},
    "adapters": {"adapters", "settings"},
    "settings": set(),
}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", [name for name in imports.modules() if room(name) in MAY_IMPORT])
def test_imports_run_one_way(module: str) -> None:
    wrong = {name for name in imports.direct(module) if room(name) not in MAY_IMPORT[room(module)]}
    assert not wrong, f"{module} may import from {MAY_IMPORT[room(module)]} alone"


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_the_modules_it_reaches(stage: str) -> None:
    module = stage.split("_")[0]
    declared = {path for path in STAGES[stage]["deps"] if path.startswith("src/") and path.endswith(".py")}
    reached = {f"src/{name.replace('.', '/')}.py" for name in imports.reached(f"citylens.stages.{module}", ASIDE)}
    assert declared == reached


def test_stage_has_one_name() -> None:
    modules = {name.split(".")[-1] for name in imports.modules() if room(name) == "stages"}
    assert {stage.split("_")[0] for stage in STAGES} == modules
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text())) - {"study", "tracking"}
    assert sections <= modules | {"register"}
    for stage, entry in STAGES.items():
        outputs = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
        folders = {(output if isinstance(output, str) else next(iter(output))).split("/")[1] for output in outputs}
        assert folders <= {stage.split("_")[0], "index.html"}


@pytest.mark.parametrize("package", sorted((imports.SOURCES / "citylens").rglob("__init__.py")), ids=str)
def test_packages_hold_nothing(package: Path) -> None:
    """Stages do not depend on __init__ files, so nothing may be in them."""
    assert [type(node) for node in ast.parse(package.read_text()).body] == [ast.Expr]


def test_science_touches_nothing_outside() -> None:
    banned = {"os", "pathlib", "shutil", "subprocess", "mlflow", "dvc", "requests", "tempfile", "io", "logging"}
    for module in (name for name in imports.modules() if room(name) == "science"):
        tree = ast.parse((imports.SOURCES / (module.replace(".", "/") + ".py")).read_text())
        names = {
            name.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
        }
        names |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not names & banned and "open" not in calls and "print" not in calls, module
