"""Downloads from a real server on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import servers

from citylens.errors import InputError
from citylens.segment import downloads


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
    weights, target = b"weights" * 1000, tmp_path / "here"
    (served / "a.pth").write_bytes(weights)
    wanted = {"encoder.pth": f"{address}/a.pth"}
    downloads.fetch(wanted, target)
    assert (target / "encoder.pth").read_bytes() == weights
    assert (target / "SHA256SUMS").read_text() == f"{hashlib.sha256(weights).hexdigest()}  encoder.pth\n"
    (target / "encoder.pth").write_bytes(b"damaged")
    downloads.fetch(wanted, target)
    assert (target / "encoder.pth").read_bytes() == weights
    (served / "a.pth").write_bytes(b"others")
    downloads.fetch(wanted, target)  # what is there is not downloaded again
    (target / "encoder.pth").unlink()
    with pytest.raises(InputError, match=r"a\.pth cannot be fetched \(SHA256 hash .* does not match the known hash"):
        downloads.fetch(wanted, target)
    assert [path.name for path in target.iterdir()] == ["SHA256SUMS"]


def test_a_file_put_there_by_hand_gets_a_sum_and_is_kept(tmp_path: Path) -> None:
    (tmp_path / "decoder.pth").write_bytes(b"brought")
    downloads.fetch({"decoder.pth": f"http://127.0.0.1:{servers.free_port()}/b.pth"}, tmp_path)
    assert downloads.read_sums(tmp_path) == {"decoder.pth": hashlib.sha256(b"brought").hexdigest()}


def test_sums_that_others_wrote_hold_and_stay(server: tuple[str, Path], tmp_path: Path) -> None:
    """As `sha256sum --binary` and certutil write them."""
    address, served = server
    (served / "a.pth").write_bytes(b"others")
    for mark in (" ", "*"):
        (tmp_path / "SHA256SUMS").write_text(own := f"# ours\n{'1' * 64} {mark}encoder.pth\n")
        with pytest.raises(InputError, match="does not match the known hash"):
            downloads.fetch({"encoder.pth": f"{address}/a.pth"}, tmp_path)
    downloads.fetch({"b.pth": f"{address}/a.pth"}, tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == f"{own}{hashlib.sha256(b'others').hexdigest()}  b.pth\n"
    for line in ("SHA256 (encoder.pth) = " + "1" * 64, "11 22  encoder.pth"):
        (tmp_path / "SHA256SUMS").write_text(f"\n{line}\n")
        with pytest.raises(InputError, match=r"SHA256SUMS, line 2: .* is no sum; allowed: 64 hexadecimal digits"):
            downloads.fetch({"encoder.pth": f"{address}/a.pth"}, tmp_path)


def test_what_cannot_be_fetched_is_said_with_what_to_do(server: tuple[str, Path], tmp_path: Path) -> None:
    address, served = server
    (served / "cut.pth").write_bytes(b"half")
    failing = {
        f"{address}/none.pth": "404",
        f"{address}/cut.pth": "IncompleteRead.*4 bytes read, 5 more expected",
        f"{address}/elsewhere.pth": "No connection adapters were found for 'file:",
        "file:///etc/hostname": "No connection adapters were found for 'file:",
        f"http://127.0.0.1:{servers.free_port()}/x.pth": "Connection refused",
    }
    for url, said in failing.items():
        with pytest.raises(
            InputError, match=rf"{url} cannot be fetched \(.*{said}.*by other means and put it at .*/x\.pth"
        ):
            downloads.fetch({"x.pth": url}, tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []
