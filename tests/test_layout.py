"""Imports run one way, computation touches nothing outside, and each DVC stage depends on the folders its code reaches."""

from __future__ import annotations

import ast

import imports
import pytest
import yaml

ROOT = imports.SOURCES.parent
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES = [
    *("acquire", "validate", "prepare", "train", "explain", "segment"),
    *("measure", "compare", "embed", "report", "register"),
]
BELOW = {"nets", "io", "settings", "errors"}
SHARED = BELOW | {"stats", "engine"}
MAY_IMPORT = {
    "errors": set(),
    "stats": set(),
    "io": {"errors"},
    "nets": {"io", "errors"},
    "settings": {"nets", "io", "errors"},
    "engine": {"settings", "io", "errors"},
    "plan": {"settings", "nets", "errors"},
    "versions": BELOW,
    "gate": BELOW | {"versions"},
    "tracking": BELOW | {"versions", "gate", "explain"},
} | dict.fromkeys(STAGES, SHARED)
"""Folders of citylens that the modules of a folder may import from, beside their own. Commands (cli, options) may import all."""
INPUT_OUTPUT = {
    "acquire": {"stage", "sources", "releases", "mat_lists", "trees", "links"},
    "validate": {"stage", "contracts", "inspection"},
    "train": {"stage", "workers"},
    "segment": {
        "stage",
        "downloads",
        "files_needed",
        "onnx_parser",
        "csail_parser",
        "transformers_parser",
        "scores",
    },
    "report": {"stage", "inputs", "page", "figures", "fonts"},
    "nets": {"checkpoints"},
}
"""Modules of a stage that read or write files, or talk to other processes, beside `stage` itself; all others only compute."""


def folder(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", imports.modules("citylens"))
def test_imports_run_one_way(module: str) -> None:
    own = folder(module)
    if own in MAY_IMPORT:
        found = {folder(name) for name in imports.direct(module) if name.startswith("citylens.")}
        assert found <= MAY_IMPORT[own] | {own}
        others = {name.split(".")[0] for name in imports.direct(module)} - {"citylens"}
        assert others <= ({"streetscenes"} if own == "acquire" else set())


def test_no_module_imports_itself_in_a_circle() -> None:
    for module in (*imports.modules("citylens"), *imports.modules("streetscenes")):
        for name in imports.direct(module):
            assert module not in imports.reached(name), f"{module} and {name} import each other"


@pytest.mark.parametrize("stage", DVC)
def test_a_stage_depends_on_the_folders_it_reaches(stage: str) -> None:
    own = stage.split("_")[0]
    declared = {path.removeprefix("src/") for path in DVC[stage]["deps"] if path.startswith("src/")}
    if own == "register":  # logs what all others did, so it follows any change
        assert declared == {"citylens"}
        return
    reached = imports.reached(f"citylens.{own}.stage", aside=("citylens.settings",))
    parts = [name.split(".") for name in reached]
    found = {"/".join(part[:2]) if part[0] == "citylens" else part[0] for part in parts}
    assert declared == {f"{path}.py" if (imports.SOURCES / f"{path}.py").is_file() else path for path in found}


def test_a_stage_has_one_name() -> None:
    assert {stage.split("_")[0] for stage in DVC} == set(STAGES)
    assert set(yaml.safe_load((ROOT / "params.yaml").read_text())) - {"study", "tracking", "engine", "gate"} <= set(
        STAGES
    )
    for stage, entry in DVC.items():
        outputs = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
        paths = [output if isinstance(output, str) else next(iter(output)) for output in outputs]
        own = stage.split("_")[0]
        allowed = {own, *({"data_docs"} if own == "validate" else {"index.html"} if own == "report" else set())}
        assert {path.split("/")[1] for path in paths} <= allowed


def test_dvc_tells_settings_called_size_apart() -> None:
    """DVC's run cache leaves out every key `size` or `nfiles` inside a section: it would restore results of another size."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())

    def sizes(section: object, path: str) -> list[str]:
        if not isinstance(section, dict):
            return []
        below = [name for key, value in section.items() for name in sizes(value, f"{path}.{key}")]
        return [f"{path}.{key}" for key in section if key in ("size", "nfiles")] + below

    assert sizes(values["segment"], "segment") == ["segment.onnx.size"]
    for stage, entry in DVC.items():
        named = entry.get("params", [])
        cached = not any("cache" in str(out) or "persist" in str(out) for out in entry["outs"])
        found = {size for name in named if name in values for size in sizes(values[name], name)}
        assert not cached or found <= set(named), stage


def test_computation_touches_nothing_outside() -> None:
    """No files, no tracker and no clock in the modules that only compute."""
    banned = {
        "os",
        "pathlib",
        "shutil",
        "subprocess",
        "mlflow",
        "dvc",
        "requests",
        "tempfile",
        "logging",
        "time",
        "datetime",
    }
    for module in imports.modules("citylens"):
        own, name = folder(module), module.split(".")[-1]
        if own not in {*STAGES, "nets"} or name == "stage" or name in INPUT_OUTPUT.get(own, set()):
            continue
        nodes = list(ast.walk(imports.tree(module)))
        names = {one.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for one in node.names}
        names |= {(node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
        calls = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        assert not names & banned and not {"open", "print"} & calls, module
        assert not {folder(one) for one in imports.direct(module) if one.startswith("citylens.")} & {
            "tracking",
        }, module


def test_only_names_lists_networks() -> None:
    """A network is added in `nets`; no other folder holds a list of networks' names, but for the paper's own numbers."""
    for module in imports.modules("citylens"):
        if folder(module) == "nets":
            continue
        texts = {node.value for node in ast.walk(imports.tree(module)) if isinstance(node, ast.Constant)}
        assert not {"vgg11", "resnet18"} <= texts, module
