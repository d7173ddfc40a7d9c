"""Planted secrets are nowhere afterwards: not in MLflow, not in what is printed, not in what git sees, not beside the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from citylens import cli
from citylens.errors import InputError
from citylens.io import files, images, masking
from citylens.settings import parser
from citylens.tracking import stores

ROOT = Path(__file__).parents[1]
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "aws-Secret/Key+0001",
    "MLFLOW_TRACKING_PASSWORD": "mlflow-password-0002",
    "MLFLOW_TRACKING_URI": "http://someone:tracking-password-0003@127.0.0.1:9",
    "SERVER_DATABASE": "oracle://mlflow:p%40ssword-0004@127.0.0.1:9/mlflow",  # of a kind that MLflow refuses by quoting it
}
IN_CONFIG = "config-local-0005"
PLANTED = ["aws-Secret", "mlflow-password-0002", "tracking-password-0003", "ssword-0004", IN_CONFIG]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a dozen photographs brought, in git, and secrets where people keep them."""
    rows = []
    for number in range(20):
        path = f"{'ab'[number % 2]}/{number}.png"
        images.write_png(tmp_path / "data/acquire" / path, np.full((64, 64, 3), number, np.uint8))
        rows.append({"id": path, "city": path[0], "spot": str(number), "path": path})
    unknown = dict.fromkeys(("heading", "lat", "lon", "utm_east", "utm_north"), np.nan)
    files.write_table(tmp_path / "data/acquire/manifest.csv", pd.DataFrame(rows).assign(**unknown))
    for name in ("params.yaml", "dvc.yaml", ".gitignore", ".dvc/.gitignore", ".dvc/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".dvc/config.local").write_text(f"['remote \"s3\"']\n    secret_access_key = {IN_CONFIG}\n")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    return tmp_path


def _train(project: Path, **more: str) -> str:
    """What two stages print with all secrets in their environment; the second logs to MLflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "CITYLENS"))}
    environment = kept | {"PYTHONPATH": str(ROOT / "src")} | SECRETS | more
    printed = ""
    for stage in (["prepare"], ["train", "resnet18", "0"]):
        command = [sys.executable, "-m", "citylens.cli", *stage]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed += done.stdout + done.stderr
    return printed


def _holding(project: Path) -> Iterator[str]:
    """Files with a secret in them, but for the one that people keep it in."""
    for path in project.rglob("*"):
        if path.is_file() and path.name != "config.local":
            content = path.read_bytes()
            yield from (f"{secret} in {path}" for secret in PLANTED if secret.encode() in content)


@pytest.mark.integration
def test_secrets_of_the_environment_stay_there(project: Path) -> None:
    printed = _train(project, MLFLOW_TRACKING_URI="")
    assert (project / "mlflow.db").is_file() and list(project.glob("mlartifacts/*/artifacts/tables/history.csv"))
    assert not [secret for secret in PLANTED if secret in printed] and not list(_holding(project))
    seen = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(seen, cwd=project, capture_output=True, text=True, check=True).stdout
    assert "config.local" not in listed and ".citylens" not in listed and "mlflow.db" not in listed


@pytest.mark.integration
@pytest.mark.parametrize(
    "address", [SECRETS["MLFLOW_TRACKING_URI"], SECRETS["SERVER_DATABASE"]], ids=["http", "database"]
)
def test_a_warning_shows_no_password_of_the_address(project: Path, address: str) -> None:
    printed = _train(project, CITYLENS_TRACKING=address)
    assert printed.count("tracking: ") == 1 and "the training goes on" in printed
    assert not [secret for secret in PLANTED if secret in printed] and not list(_holding(project))


def test_sync_shows_no_password_of_the_address(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("CITYLENS_TRACKING", SECRETS["MLFLOW_TRACKING_URI"])
    assert cli.main(["sync"]) == 1
    said = capsys.readouterr().err
    assert "tracking at http://***@127.0.0.1:9 failed" in said and "tracking-password-0003" not in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql+psycopg://me:pass@db.example.org/x", "at postgresql+psycopg://***@db.example.org/x"),
        ("https://ghp_0123@example.org/x and ssh://me@host", "https://***@example.org/x and ssh://me@host"),
        ("postgresql://db/x?user=me&password=pass&port=1", "postgresql://db/x?user=me&password=***&port=1"),
        ("key aws-Secret/Key+0001 and aws-Secret%2FKey%2B0001", "key *** and ***"),
        ("wrong password p@ssword-0004 or p%40ssword-0004", "wrong password *** or ***"),
        ("http://127.0.0.1:5000/api and s3://bucket/a@b", "http://127.0.0.1:5000/api and s3://bucket/a@b"),
        ("file \x1b[2J\x07.png", "file \\x1b[2J\\x07.png"),
    ],
)
def test_what_is_masked(text: str, shown: str) -> None:
    assert masking.masked(text, SECRETS) == shown


def test_a_password_in_params_yaml_is_refused_since_git_has_it(project: Path) -> None:
    mapping = yaml.safe_load((ROOT / "params.yaml").read_text())
    for address in (SECRETS["MLFLOW_TRACKING_URI"], "https://ghp_0123@host", "postgresql://db/x?user=me&password=pass"):
        mapping["tracking"]["address"] = address
        with pytest.raises(InputError, match=r"tracking\.address has a password in it.*CITYLENS_TRACKING"):
            parser.parse(mapping)


def test_a_server_elsewhere_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    folder = tmp_path.as_uri()
    for store in ("http://127.0.0.1:5000", "http://localhost:5000", "sqlite:////x/mlflow.db"):
        assert stores.local_folder(folder, store) == tmp_path
    with pytest.raises(ValueError, match=r"the server on example.org keeps artefacts in .*, a folder of this machine"):
        stores.local_folder(folder, "https://example.org/mlflow")
    assert stores.local_folder("mlflow-artifacts:/1/2", "https://example.org/mlflow") is None


def test_servers_are_for_this_machine_alone() -> None:
    for path in (ROOT / "Makefile", *(ROOT / "src").rglob("*.py"), *(ROOT / ".ci").iterdir()):
        text = path.read_text()
        assert "0.0.0.0" not in text
        for word in ("--host ", "--addr ", "-h "):
            for after in text.split(word)[1:]:
                assert after.startswith("127.0.0.1"), path


def test_the_teams_server_is_open_on_this_machine_alone() -> None:
    """And it has no password in git, and MLflow's version from requirements.lock."""
    text = (ROOT / "deploy/compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    assert set(services) == {"postgres", "s3", "mlflow"}
    for service in services.values():
        assert re.search(r":v?\d+(\.\d+)+", service["image"]) and service["healthcheck"]["test"][0] == "CMD"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert "network_mode" not in service
        secrets = [value for name, value in service["environment"].items() if re.search("PASSWORD|SECRET|AUTH", name)]
        assert secrets and all("${CITYLENS_SERVER_PASSWORD:?}" in secret for secret in secrets)
    assert set(services["mlflow"]["depends_on"]) == {"postgres", "s3"}
    ignored = subprocess.run(["git", "check-ignore", "deploy/.env"], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout == "deploy/.env\n"
    (version,) = re.findall(r"^mlflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert services["mlflow"]["image"] == f"ghcr.io/mlflow/mlflow:v{version}-full"
