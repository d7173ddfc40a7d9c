"""The documents name tests and files that exist, and the README stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "models/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TESTS = {path.stem: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
MADE = ("data/", "reports/", "models/train/", "models/segmenter/", ".citylens/", "tables/")
"""Folders that the study, MLflow or the user fills."""
names = [str(page.relative_to(ROOT)) for page in PAGES]


def code(text: str) -> list[str]:
    """Return the texts between backquotes outside code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_named_tests_exist(page: Path) -> None:
    functions = set(re.findall(r"def (test_\w+)", "\n".join(TESTS.values())))
    named = set(re.findall(r"(?<![.\w])test_\w+", page.read_text()))
    assert named - functions - set(TESTS) == set()


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_named_files_exist(page: Path) -> None:
    """A path is relative to the project, to src/citylens, to tests or to the page."""
    endings = (".py", ".yaml", ".lock", ".md", ".j2", ".toml", ".svg", ".sh", ".json", ".csv", "/")
    paths = [text for text in code(page.read_text()) if re.fullmatch(r"[\w./-]+", text) and text.endswith(endings)]
    folders = (ROOT, ROOT / "src/citylens", ROOT / "tests", page.parent)
    missing = [
        path
        for path in paths
        if "/" in path.rstrip("/")
        and not path.startswith(MADE)
        and not any((folder / path).exists() for folder in folders)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve()
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), flags=re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}, (
                target
            )


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / target).resolve() for target in re.findall(r"\]\(([^):#]+)\)", (ROOT / "README.md").read_text())}
    assert {page for page in PAGES if page.parent != ROOT / "models"} - linked == {ROOT / "README.md"}


def test_the_readme_shows_the_tree() -> None:
    tree = (ROOT / "README.md").read_text().rpartition("```")[0].rpartition("```")[2]
    shown = [path.rstrip(",") for line in tree.strip().splitlines() for path in line.partition("  ")[0].split()]
    assert [path for path in shown if not (ROOT / path).exists()] == []
    assert {path.name for path in (ROOT / "src").iterdir() if path.is_dir() and (path / "__init__.py").exists()} == {
        path.rstrip("/").rpartition("/")[2] for path in shown if path.startswith("src/")
    }
