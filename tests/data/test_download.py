from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from rushkit.data import download
from rushkit.data.download import Archive, Source
from rushkit.data.files import RecordFile
from rushkit.errors import DataError
from rushkit.locks import sole_writer

CONTENT = {"set/a.bin": b"a" * 3000, "set/b.bin": bytes(range(250)) * 20, "set/names.txt": b"x\ny\n"}
FILES = (RecordFile("set/a.bin", 30, 100), RecordFile("set/b.bin", 50, 100))


def tar(content: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    # Uncompressed inside the gzip, so that cutting the file anywhere cuts content.
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=0) as archive:
        for name, body in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return packed.getvalue()


@dataclass
class Server:
    """An HTTP server on this machine that may ignore ranges, break connections, or refuse."""

    body: bytes
    url: str = ""
    ranges: bool = True
    break_after: int | None = None
    status: int = 200
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("RUSHKIT_OFFLINE")
    monkeypatch.setattr(download, "CHUNK_BYTES", 1000)
    told = Server(tar(CONTENT))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            told.asked.append(wanted)
            start = int(re.sub(r"\D", "", wanted) or 0) if told.ranges else 0
            if told.status != 200 or (start and start >= len(told.body)):
                self.send_error(416 if told.status == 200 else told.status)
                return
            rest = told.body[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: told.break_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{http.server_port}/set.tar.gz"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield told
    http.shutdown()
    thread.join()
    http.server_close()


def source(server: Server, root: Path) -> Source:
    digest = hashlib.md5(server.body, usedforsecurity=False).hexdigest()
    return Source("mine", root, Archive(server.url, digest, FILES, ("set/names.txt", "set/absent.txt")))


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_missing_files_are_downloaded_checked_and_unpacked_and_nothing_else_stays(
    server: Server, tmp_path: Path
) -> None:
    calls: list[tuple[int, int]] = []
    source(server, tmp_path / "new").fetch(lambda done, total: calls.append((done, total)))
    assert contents(tmp_path / "new") == CONTENT
    assert calls[0] == (1000, len(server.body))
    assert calls[-1] == (len(server.body), len(server.body))


def test_ensure_downloads_only_when_a_wanted_file_is_missing(server: Server, tmp_path: Path) -> None:
    mine = source(server, tmp_path)
    mine.ensure(FILES)
    mine.ensure(FILES)
    mine.fetch()
    assert server.asked == [""]


def test_members_that_nobody_asked_for_stay_packed(server: Server, tmp_path: Path) -> None:
    server.body = tar({**CONTENT, "../evil.txt": b"evil", "/abs.txt": b"evil", "set/other.bin": b"other"})
    source(server, tmp_path / "root").fetch()
    assert contents(tmp_path) == {f"root/{name}": body for name, body in CONTENT.items()}


def test_a_broken_connection_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.break_after = 4000
    source(server, tmp_path).fetch()
    assert contents(tmp_path) == CONTENT
    assert server.asked[:3] == ["", "bytes=4000-", "bytes=8000-"]


def test_what_an_earlier_run_left_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tar.gz.partial").write_bytes(server.body[:5000])
    source(server, tmp_path).fetch()
    assert server.asked == ["bytes=5000-"]
    assert contents(tmp_path) == CONTENT


def test_a_whole_archive_that_was_not_unpacked_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tar.gz.partial").write_bytes(server.body)
    source(server, tmp_path).fetch()
    assert server.asked == []
    assert contents(tmp_path) == CONTENT


@pytest.mark.parametrize("left", [b"of another file" * 10, b"longer than the archive" * 1000])
def test_a_leftover_of_another_file_is_thrown_away(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "set.tar.gz.partial").write_bytes(left)
    source(server, tmp_path).fetch()
    assert contents(tmp_path) == CONTENT


def test_a_server_that_cannot_continue_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "set.tar.gz.partial").write_bytes(server.body[:5000])
    source(server, tmp_path).fetch()
    assert contents(tmp_path) == CONTENT


def test_a_wrong_checksum_is_an_error_and_unpacks_nothing(server: Server, tmp_path: Path) -> None:
    mine = source(server, tmp_path)
    server.body = tar({**CONTENT, "set/a.bin": b"z" * 3000})
    with pytest.raises(DataError, match=f"has MD5 [0-9a-f]{{32}}, expected {mine.archive.md5}"):
        mine.fetch()
    assert contents(tmp_path) == {}
    assert len(server.asked) == 1


def test_an_archive_without_a_wanted_member_names_it(server: Server, tmp_path: Path) -> None:
    server.body = tar({"set/a.bin": CONTENT["set/a.bin"]})
    with pytest.raises(DataError, match=r"does not contain set/b\.bin"):
        source(server, tmp_path).fetch()


def test_a_refusal_says_what_the_server_said(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match="HTTP 404"):
        source(server, tmp_path).fetch()


def test_without_a_network_one_error_lists_files_sizes_and_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUSHKIT_OFFLINE")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.bin").write_bytes(CONTENT["set/a.bin"])
    # Nothing listens on port 1.
    mine = Source("mine", tmp_path, Archive("http://127.0.0.1:1/set.tar.gz", "0" * 32, FILES))
    with pytest.raises(DataError, match=r"mine: 1 of 2 files are missing .* cannot be downloaded: .*refused") as caught:
        mine.ensure(FILES)
    hint = caught.value.hint or ""
    assert "set/b.bin  (5000 bytes)" in hint
    assert "a.bin" not in hint
    assert str(tmp_path) in hint
    assert "RUSHKIT_DATA" in hint
    assert list(tmp_path.iterdir()) == [tmp_path / "set"]


def test_a_name_that_does_not_resolve_is_the_same_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUSHKIT_OFFLINE")
    mine = Source("mine", tmp_path, Archive("http://no-such-host.invalid/set.tar.gz", "0" * 32, FILES))
    with pytest.raises(DataError, match="2 of 2 files are missing"):
        mine.fetch()


def test_offline_nothing_is_asked_for(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHKIT_OFFLINE", "1")
    with pytest.raises(DataError, match="RUSHKIT_OFFLINE is set"):
        source(server, tmp_path).fetch()
    assert server.asked == []


def test_an_archive_that_the_user_brought_is_unpacked_without_a_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHKIT_OFFLINE", "1")
    (tmp_path / "set.tar.gz").write_bytes(server.body)
    source(server, tmp_path).fetch()
    assert contents(tmp_path) == {**CONTENT, "set.tar.gz": server.body}


def test_a_damaged_archive_that_the_user_brought_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tar.gz").write_bytes(server.body[:-1])
    with pytest.raises(DataError, match=r"set\.tar\.gz has MD5"):
        source(server, tmp_path).fetch()


def test_an_archive_that_is_no_tar_is_named(server: Server, tmp_path: Path) -> None:
    server.body = tar(CONTENT)[:6000]
    with pytest.raises(DataError, match=r"set\.tar\.gz\.partial cannot be unpacked"):
        source(server, tmp_path).fetch()


def test_a_file_of_the_wrong_length_is_replaced_by_a_fetch(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.bin").write_bytes(b"short")
    mine = source(server, tmp_path)
    assert [check.status for check in mine.check()] == ["wrong", "missing"]
    mine.fetch()
    assert contents(tmp_path) == CONTENT


def test_a_root_that_cannot_be_written_names_the_variable(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written to .*file") as caught:
        source(server, tmp_path / "file").fetch()
    assert "RUSHKIT_DATA" in (caught.value.hint or "")


def test_of_several_readers_one_downloads(server: Server, tmp_path: Path) -> None:
    mine = source(server, tmp_path)
    threads = [threading.Thread(target=mine.fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(tmp_path) == CONTENT
    assert server.asked == [""]


def test_a_file_that_goes_while_its_lock_is_waited_for_is_opened_anew(tmp_path: Path, monkeypatch) -> None:
    path, original, gone = tmp_path / "set.partial", os.fstat, []

    def fstat(descriptor: int) -> os.stat_result:
        found = original(descriptor)
        if not gone:
            gone.append(path.unlink())
        return found

    monkeypatch.setattr(os, "fstat", fstat)
    with sole_writer(path) as handle:
        handle.write(b"here")
    assert gone
    assert path.read_bytes() == b"here"


def test_a_partial_file_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.bin").write_bytes(b"a" * 60)
    exact, cut = FILES[0], replace(FILES[0], any_count=True)
    assert exact.check(tmp_path).status == "wrong"
    assert cut.check(tmp_path) == (str(tmp_path / "set" / "a.bin"), "partial", "2 records; the official file has 100")
