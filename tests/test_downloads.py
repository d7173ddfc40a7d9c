"""Downloads from a real server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from citylens.adapters import downloads
from citylens.settings import InputError


class Quiet(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.endswith("elsewhere.pth"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *arguments: object) -> None: ...

    def send_header(self, keyword: str, value: str) -> None:
        longer = keyword == "Content-Length" and self.path.endswith("cut.pth")
        super().send_header(keyword, str(int(value) + 5) if longer else value)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()


def test_files_come_once_and_are_held_to_their_sums(server: tuple[str, Path], tmp_path: Path) -> None:
    address, served = server
    target = tmp_path / "here"
    (served / "a.pth").write_bytes(b"weights" * 1000)
    wanted = {"encoder.pth": f"{address}/a.pth"}
    assert downloads.fetch(wanted, target) == ["encoder.pth"]
    assert (target / "encoder.pth").read_bytes() == b"weights" * 1000
    assert downloads.read_sums(target) == {"encoder.pth": downloads.sha256(served / "a.pth")}
    assert downloads.fetch(wanted, target) == []
    (target / "encoder.pth").unlink()
    (served / "a.pth").write_bytes(b"others")
    with pytest.raises(InputError, match="has become another file than SHA256SUMS says"):
        downloads.fetch(wanted, target)
    assert [path.name for path in target.iterdir()] == ["SHA256SUMS"]


def test_what_cannot_be_fetched_is_said_with_what_to_do(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served = server
    (served / "cut.pth").write_bytes(b"half")
    for name, said in (("none.pth", "404"), ("cut.pth", "incomplete, 4 of 9 bytes|IncompleteRead")):
        with pytest.raises(InputError, match=f"({said}).* by other means and put it at .*/{name}"):
            downloads.fetch({name: f"{address}/{name}"}, tmp_path)
    with pytest.raises(InputError, match="Redirection to url 'file:"):
        downloads.fetch({"x.pth": f"{address}/elsewhere.pth"}, tmp_path)
    with pytest.raises(InputError, match="is no web address; allowed: http:// or https://"):
        downloads.fetch({"x.pth": "file:///etc/hostname"}, tmp_path)
    monkeypatch.setattr(downloads, "MOST", 3)
    with pytest.raises(InputError, match="more than"):
        downloads.fetch({"x.pth": f"{address}/cut.pth"}, tmp_path)
    with pytest.raises(InputError, match="cannot be fetched"):
        downloads.fetch({"x.pth": "http://127.0.0.1:9/x.pth"}, tmp_path)
    assert not list(tmp_path.glob("*.pth"))
