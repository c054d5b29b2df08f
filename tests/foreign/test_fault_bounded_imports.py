"""Foreign files whose few bytes ask for endless memory or time."""

from __future__ import annotations

import difflib
import io
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from rushkit.errors import CheckpointError
from rushkit.exchange.foreign_names import fit_names
from rushkit.exchange.rules import Rules
from rushkit.foreign.file import read_foreign

PROTOCOL_2 = b"\x80\x02"


def with_pickle(path: Path, pickle: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """An archive as torch.save writes it, with another pickle."""
    whole = io.BytesIO()
    torch.save({"w": torch.arange(4.0)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", compression) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, pickle if entry.filename.endswith("data.pkl") else source.read(entry))
    return path


def nested_tuples(depth: int) -> bytes:
    """A tuple of twice a tuple of twice a tuple ...: 2 ** depth leaves in some 5 bytes a level."""
    levels = b"".join(b"q" + bytes([level]) + b"h" + bytes([level]) + b"\x86" for level in range(depth))
    return b")" + levels


def test_an_expanded_tensor(tmp_path):
    torch.save({"w": torch.zeros(1).expand(60_000, 60_000)}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"'w' of .* takes 14400000000 bytes"):
        limited_read(tmp_path / "weights.pt")


def test_one_tensor_under_thousands_of_names(tmp_path):
    tensor = torch.zeros(10_000)
    torch.save({f"w{index}": tensor for index in range(5000)}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="take 200000000 bytes"):
        read_foreign(tmp_path / "weights.pt")


def test_an_archive_that_unpacks_to_gigabytes(tmp_path):
    path = tmp_path / "weights.pt"
    with_pickle(path, PROTOCOL_2 + b"}.")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/1", "w") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="packed archive"):
        read_foreign(path)


def test_a_container_that_contains_itself(tmp_path):
    content: dict = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "weights.pt")
    assert_read_ends(tmp_path / "weights.pt", "no state dict")


def test_a_file_of_one_byte(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"\x80")
    with pytest.raises(CheckpointError, match="neither a whole"):
        read_foreign(path)


@pytest.mark.parametrize("kind", ["archive", "legacy"])
def test_a_key_that_takes_for_ever_to_hash(tmp_path, kind):
    pickle = PROTOCOL_2 + b"}" + nested_tuples(60) + b"K\x01s."
    path = tmp_path / "weights.pt"
    if kind == "archive":
        with_pickle(path, pickle)
    else:
        legacy = io.BytesIO()
        torch.save({}, legacy, _use_new_zipfile_serialization=False)
        # The magic number, the protocol and the system stand before the object.
        path.write_bytes(legacy.getvalue().partition(b"}q\x00.")[0] + pickle)
    assert_read_ends(path, "grows beyond all bounds")


@pytest.mark.parametrize(
    ("called", "arguments"),
    [
        ("_codecs encode", b"X\x11\x00\x00\x00" + b"a" * 17 + b"X\x06\x00\x00\x00latin1\x86"),
        ("builtins bytearray", b"J\x00\x00\x10\x00\x85"),
        ("torch Tensor", b"J\x00\x00\x10\x00\x85"),
    ],
)
def test_what_makes_room_for_any_number_is_not_called(tmp_path, called, arguments):
    module, name = called.encode().split(b" ")
    path = with_pickle(
        tmp_path / "weights.pt",
        PROTOCOL_2 + b"}X\x01\x00\x00\x00ac" + module + b"\n" + name + b"\n" + arguments + b"Rs.",
    )
    with pytest.raises(CheckpointError, match=rf"pickled objects beside tensors \({called.replace(' ', '.')}\)"):
        read_foreign(path)


def test_thousands_of_unknown_names_are_compared_with_a_few(monkeypatch):
    compared = 0
    original = difflib.SequenceMatcher.set_seq1

    def counted(self, text):
        nonlocal compared
        compared += 1
        assert compared < 10_000
        original(self, text)

    monkeypatch.setattr(difflib.SequenceMatcher, "set_seq1", counted)
    encoder = nn.Sequential(*(nn.Linear(2, 2) for _ in range(30))).state_dict()
    tensors = {f"layer{index}.theirs": torch.zeros(2) for index in range(5000)}
    with pytest.raises(CheckpointError, match=r"without a place \(5000 of 5000\)") as raised:
        fit_names(tensors, encoder, 2, Rules(), False)
    assert len(str(raised.value)) < 2000


def test_names_of_thousands_of_beginnings_are_gone_through_once():
    class Counted(str):
        looked = 0

        def startswith(self, *arguments):
            Counted.looked += 1
            assert Counted.looked < 300_000
            return super().startswith(*arguments)

    tensors = {Counted(f"layer{index}.w"): torch.zeros(2) for index in range(5000)}
    with pytest.raises(CheckpointError, match="without a place"):
        fit_names(tensors, nn.Linear(2, 2).state_dict(), 2, Rules(), False)
    assert Counted.looked < 100_000


def assert_read_ends(path: Path, says: str) -> None:
    """Read in a process that the system ends after 20 seconds of computing."""
    code = (
        "import resource, sys; from rushkit.errors import CheckpointError; "
        "from rushkit.foreign.file import read_foreign\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "try: read_foreign(sys.argv[1])\n"
        "except CheckpointError as error: print(error.message)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0
    assert says in ended.stdout


def limited_read(path: Path) -> None:
    """Read with a few gigabytes of memory more than this process has."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + (4 << 30), before[1]))
    try:
        read_foreign(path)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
