"""A pickle is read as plain data or refused: what would run a program does nothing, and is named."""

from __future__ import annotations

import os
import struct
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rushkit.data import pickled
from rushkit.data.pickled import read_pickled
from rushkit.errors import DataError

PROTOCOLS = (2, 3, 4, 5)


def dumped(value: Any, protocol: int = 2) -> bytes:
    """What Python's own pickler writes."""
    return bytes(ForkingPickler.dumps(value, protocol))


@pytest.fixture
def read(tmp_path: Path):
    def write_and_read(content: bytes) -> Any:
        path = tmp_path / "batch"
        path.write_bytes(content)
        return read_pickled(path)

    return write_and_read


PIXELS = np.random.default_rng(0).integers(0, 256, (7, 12), dtype=np.uint8)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        {"data": PIXELS, "labels": [3, 1, 4], "filenames": ["a.png", "ä.png"], b"key": b"\0\xff", 7: None},
        [PIXELS.T, PIXELS[:0], np.arange(6, dtype=">i4"), np.float32([0.5]), np.array([True])],
        [np.int64(-3), np.float64(0.25), np.uint8(200), True, False, None, 0.5, -1, 255, 256, 65536, 2**40, -(2**70)],
        ({}, [], (), ("a", ("b", [1])), b"", ""),
        "x" * 300,
        [b"y" * 300, bytes(range(256))],
    ],
)
def test_data_is_what_python_wrote(read, protocol, value):
    np.testing.assert_equal(read(dumped(value, protocol)), value)


def test_an_array_down_its_columns_has_its_numbers_in_place(read):
    value = np.asfortranarray(np.arange(6, dtype="<u2").reshape(2, 3))
    for protocol in PROTOCOLS:
        assert np.array_equal(read(dumped(value, protocol)), value)


def short(text: bytes) -> bytes:
    """A text of Python 2: SHORT_BINSTRING."""
    return b"U" + bytes([len(text)]) + text


def of_python2(pixels: bytes, rows: int, columns: int) -> bytes:
    """An array of bytes as Python 2's cPickle writes it, instruction by instruction."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85" + short(b"b") + b"\x87Rq\x05"
        b"(K\x01M"
        + struct.pack("<H", rows)
        + b"M"
        + struct.pack("<H", columns)
        + b"\x86cnumpy\ndtype\nq\x06"
        + short(b"u1")
        + b"K\x00K\x01\x87Rq\x07(K\x03"
        + short(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<I", len(pixels)) + pixels + b"tb"
    )


def test_a_batch_of_python_2_is_read(read):
    content = (
        b"\x80\x02}q\x01("
        + short(b"data")
        + b"q\x02"
        + of_python2(PIXELS.tobytes(), 7, 12)
        + short(b"labels")
        + b"q\x08]q\x09(K\x03K\x01e"
        + short(b"batch_label")
        + short(b"training batch 1 of 5")
        + b"u."
    )
    found = read(content)
    assert sorted(found) == [b"batch_label", b"data", b"labels"]
    assert np.array_equal(found[b"data"], PIXELS)
    assert found[b"labels"] == [3, 1]


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Own:
    """An object of a class of somebody's own."""


def batch(evil: bytes) -> bytes:
    """A dict that has something evil among its values."""
    return b"\x80\x02}" + short(b"data") + evil + b"s."


EVIL = {
    "os.system": (lambda mark: dumped({"data": Calls(os.system, f"touch {mark}")}), r"names '\w+\.system'"),
    "__reduce__": (lambda mark: dumped({"data": Calls(Path.touch, mark)}), "names '"),
    "eval": (lambda mark: dumped({"data": Calls(eval, f"open({str(mark)!r}, 'w')")}, 4), r"names 'builtins\.eval'"),
    "an object": (lambda _: dumped(Own(), 2), r"names 'copy_reg\._reconstructor'|names '.*Own'"),
    "a persistent id": (lambda _: batch(b"PK\n"), "it has a persistent id"),
    "a persistent id from the stack": (lambda _: batch(b"K\x01Q"), "it has a persistent id"),
    "a nested name": (lambda _: batch(b"\x8c\x05numpy\x8c\x11ndarray.__class__\x93"), r"names 'numpy\.ndarray\."),
    "a name of numpy's": (lambda _: batch(b"cnumpy\nload\n"), r"names 'numpy\.load'"),
    "a name without an end": (lambda _: batch(b"c" + b"x" * 300), "a name that does not end"),
    "an extension": (lambda _: batch(b"\x82\x01"), "an extension code"),
    "an instance": (lambda _: batch(b"(ios\nsystem\n"), "an instance of a class"),
    "an instance from the stack": (lambda _: batch(b"(cnumpy\nndarray\no"), "an instance of a class"),
    "a new object": (lambda _: batch(b"cnumpy\nndarray\n)\x81"), "an instance of a class"),
    "a new object with keys": (lambda _: batch(b"cnumpy\nndarray\n)}\x92"), "an instance of a class"),
    "a call of ndarray": (lambda _: batch(b"cnumpy\nndarray\n)R"), "something else where numpy writes an array"),
    "a call of a text": (lambda _: batch(short(b"system") + b")R"), "it calls a bytes"),
    "the state of a list": (lambda _: batch(b"])b"), "sets the state of a list"),
    "the state of a name": (lambda _: batch(b"cnumpy\nndarray\n)b"), r"sets the state of numpy\.ndarray"),
    "the state of a dict": (lambda _: batch(b"}}b"), "sets the state of a dict"),
    "an array that is too short": (lambda _: batch(of_python2(b"abc", 7, 12)), "3 bytes for an array that needs 84"),
    "an array that is too long": (lambda _: batch(of_python2(b"abc", 1, 2)), "3 bytes for an array that needs 2"),
    "a huge array": (
        lambda _: batch(of_python2(b"abc", 1, 2).replace(b"M\1\0", b"\x8a\x0a" + b"\xff" * 9 + b"\0")),
        "3 bytes for an array that needs",
    ),
    "an array of no bytes and endless sides": (
        lambda _: batch(of_python2(b"", 0, 2).replace(b"M\2\0", b"\x8a\x0a" + b"\xff" * 9 + b"\0")),
        "where numpy writes a shape",
    ),
    "objects in an array": (lambda _: dumped(np.array([{}], dtype=object)), r"an array of 'O8'; read are numbers"),
    "records in an array": (lambda _: dumped(np.zeros(2, "u1,u2")), "an array of 'V3'"),
    "a list for content": (
        lambda _: batch(of_python2(b"", 0, 0).replace(b"T\0\0\0\0", b"]")),
        "arrays of objects are not read",
    ),
    "a text that claims gigabytes": (lambda _: batch(b"T\xff\xff\xff\x7fabc"), "it ends early"),
    "a text that claims more than there is memory": (lambda _: batch(b"\x8e" + b"\xff" * 8), "it ends early"),
    "a huge number": (lambda _: batch(b"\x8a\xff" + b"\1" * 255), "a whole number of 255 bytes"),
    "a list in itself": (lambda _: b"\x80\x02]q\0h\0a.", "uses a list twice"),
    "a list that doubles": (lambda _: b"\x80\x02]q\0" + b"]q\1h\0ah\0a.", "uses a list twice"),
    "a text that doubles": (
        lambda _: b"\x80\x02c_codecs\nencode\nq\0X\xe8\3\0\0" + b"a" * 1000 + b"q\1\x85Rh\0h\1\x85R.",
        "uses a text of 1000 characters twice",
    ),
    "deep tuples": (lambda _: b"\x80\x02)" + b"\x85" * 5000 + b".", "tuples in tuples"),
    "deep lists": (lambda _: b"\x80\x02" + b"]" * 70_000 + b"a" * 69_999 + b".", "keeps more than 65536 things open"),
    "a tuple for a key": (lambda _: b"\x80\x02})K\1s.", "a tuple for a key"),
    "a key without a value": (lambda _: b"\x80\x02}(K\1u.", "a key without a value"),
    "nothing on the stack": (lambda _: b"\x80\x02a.", "takes more than it has put"),
    "more than the mark has": (lambda _: b"\x80\x02]K\1(\x86.", "takes more than it has put"),
    "no mark": (lambda _: b"\x80\x02]e.", "no mark"),
    "an empty place of the memo": (lambda _: b"\x80\x02h\5.", "number 5 of its memo"),
    "an append to a dict": (lambda _: b"\x80\x02}K\1a.", "appends to a dict"),
    "an item of a list": (lambda _: b"\x80\x02]K\1K\1s.", "sets an item of a list"),
    "no end": (lambda _: b"\x80\x02}", "it ends early"),
    "an end in the middle": (lambda _: b"\x80\x02K\1K\2.", "ends in the middle"),
    "an old protocol": (lambda _: b"(dp0\nS'data'\n.", "does not begin as pickles"),
    "a new protocol": (lambda _: b"\x80\x09}.", "its protocol is 9"),
    "a set": (lambda _: dumped({1, 2}, 4), "it has a set"),
    "bytes outside": (lambda _: batch(b"\x97"), "a buffer outside"),
    "no UTF-8": (lambda _: batch(b"X\1\0\0\0\xff"), "no UTF-8"),
    "an encoding of another name": (lambda _: batch(b"c_codecs\nencode\nX\1\0\0\0ax\x03\0\0\0rot\x86R"), "it has"),
    "no pickle": (lambda _: b"hello", "does not begin as pickles"),
    "another instruction": (lambda _: batch(b"0"), "no data of protocol 2 or later needs"),
    "nothing": (lambda _: b"", "does not begin as pickles"),
}


@pytest.mark.parametrize("kind", EVIL)
def test_what_is_no_data_is_refused_and_does_nothing(read, tmp_path, kind):
    make, words = EVIL[kind]
    mark, modules = tmp_path / "ran", set(sys.modules)
    content = make(mark)
    with pytest.raises(DataError, match=words) as caught:
        read(content)
    assert "batch is no pickle of plain data" in caught.value.message
    assert "nothing of it was run" in caught.value.hint
    assert not mark.exists()
    assert set(sys.modules) == modules


def test_the_evil_pickle_would_have_run(tmp_path):
    mark = tmp_path / "ran"
    ForkingPickler.loads(EVIL["os.system"][0](str(mark)))
    assert mark.exists()


def test_a_name_from_the_file_clears_no_screen(read):
    with pytest.raises(DataError) as caught:
        read(batch(b"cos\x1b[2J\nsystem\n"))
    assert "\x1b" not in str(caught.value)


def test_a_program_without_end_is_stopped(read, monkeypatch):
    monkeypatch.setattr(pickled, "MOST_STEPS", 1000)
    with pytest.raises(DataError, match="more than 1000 instructions"):
        read(b"\x80\x02]" + b"Na" * 1000 + b".")


def test_a_file_beyond_its_bound_is_not_read(tmp_path):
    path = tmp_path / "meta"
    path.write_bytes(dumped("x" * 100))
    with pytest.raises(DataError, match="it has more than 50 bytes"):
        read_pickled(path, 50)
    with pytest.raises(DataError, match="cannot be read"):
        read_pickled(tmp_path / "absent")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_batch_that_is_cut_or_altered_anywhere_is_an_error_or_data(read, protocol):
    content = dumped({"data": PIXELS[:1], "labels": [1, 2], "names": ["a"], "one": np.int64(1)}, protocol)
    for length in range(len(content)):
        with pytest.raises(DataError):
            read(content[:length])
    draws = np.random.default_rng(protocol)
    for _ in range(300):
        altered = bytearray(content)
        altered[draws.integers(len(content))] = draws.integers(256)
        try:
            read(bytes(altered))
        except DataError:
            continue
