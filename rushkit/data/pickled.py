"""Read plain data from a pickle, such as a batch of CIFAR-10 in the python layout, without Python's own unpickler.

A pickle is a program for a stack machine. This is a machine of our own that knows the instructions for data alone:
numbers, texts, lists, dicts, tuples and numpy arrays of numbers. It imports nothing and calls nothing by name: the few
names that numpy writes stand for parts of this module, and every other name and instruction is refused.
https://docs.python.org/3/library/pickletools.html describes the instructions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rushkit.errors import DataError, shorten
from rushkit.paths import read_file, reason

# CIFAR-100's training file takes about 200,000 instructions; each makes at most one small object.
MOST_STEPS = 2**21
MOST_STACK = 2**16
MOST_NESTED = 8
MOST_BYTES = 2**29
MOST_DIGITS = 16
# Characters of a text that may be used again: of a longer one a short file could make any number of copies.
MOST_SHARED = 256
# Bytes of the length of what follows an instruction, and what it becomes.
_BYTES, _TEXT = "bytes", "text"
_COUNTED = {
    b"U": (1, _BYTES),
    b"T": (4, _BYTES),
    b"C": (1, _BYTES),
    b"B": (4, _BYTES),
    b"\x8e": (8, _BYTES),
    b"\x96": (8, _BYTES),
    b"\x8c": (1, _TEXT),
    b"X": (4, _TEXT),
    b"\x8d": (8, _TEXT),
}
_NUMBERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_GETS = {b"h": "<B", b"j": "<I"}
_PUTS = {b"q": "<B", b"r": "<I"}
_REFUSED = {
    b"P": "a persistent id",
    b"Q": "a persistent id",
    b"\x82": "an extension code",
    b"\x83": "an extension code",
    b"\x84": "an extension code",
    b"i": "an instance of a class",
    b"o": "an instance of a class",
    b"\x81": "an instance of a class",
    b"\x92": "an instance of a class",
    b"\x97": "a buffer outside of the file",
    b"\x98": "a buffer outside of the file",
    b"\x8f": "a set",
    b"\x90": "a set",
    b"\x91": "a set",
}
_KINDS = "biuf"


class _Refused(Exception):
    """What is wrong with a pickle, to be said with its path."""


@dataclass(frozen=True)
class _Name:
    """One of the names that numpy writes, and what stands for it here."""

    name: str
    make: Callable[..., Any]


@dataclass
class _Kind:
    """The type of an array's numbers; BUILD sets its byte order."""

    dtype: np.dtype[Any]


@dataclass
class _Unbuilt:
    """An array whose content follows, and the places of the memo that it has been put into."""

    slots: list[int] = field(default_factory=list)


def read_pickled(path: Path, most: int = MOST_BYTES) -> Any:
    """Return the data of a pickle: numbers, str, bytes, lists, dicts, tuples, and numpy arrays of numbers.

    Texts of Python 2 are bytes. Nothing of the file is run or imported.

    Args:
        path: The file.
        most: How many bytes it may have.

    Raises:
        DataError: the file cannot be read, is too large, damaged, or has anything but such data in it.
    """
    try:
        content = read_file(path, most)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", "check the file and its permissions") from error
    try:
        return _Machine(content).run()
    except _Refused as fault:
        raise DataError(
            f"{path} is no pickle of plain data: {fault}",
            "nothing of it was run; delete it, and bring the file from its official archive",
        ) from None


class _Machine:
    """A pickle, how far it has been read, the stack, and the memo of what may be used again."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[bytes, Callable[[], None]] = {
            b"\x80": self._protocol,
            b"\x95": self._frame,
            b"(": lambda: self._marks.append(len(self._stack)),
            b"]": lambda: self._push([]),
            b"}": lambda: self._push({}),
            b")": lambda: self._push(()),
            b"l": lambda: self._push(self._above_mark()),
            b"d": lambda: self._push(_paired(self._above_mark())),
            b"t": lambda: self._tuple(self._above_mark()),
            b"\x85": lambda: self._tuple(self._pop(1)),
            b"\x86": lambda: self._tuple(self._pop(2)),
            b"\x87": lambda: self._tuple(self._pop(3)),
            b"a": lambda: self._append(self._pop(1)),
            b"e": lambda: self._append(self._above_mark()),
            b"s": lambda: self._set(self._pop(2)),
            b"u": lambda: self._set(self._above_mark()),
            b"\x8a": self._long,
            b"\x94": lambda: self._put(len(self._memo)),
            b"c": self._global,
            b"\x93": lambda: self._name(*self._pop(2)),
            b"R": self._reduce,
            b"b": self._build,
        }

    def run(self) -> Any:
        """Follow the instructions to the last one, and return what they made."""
        if not self._content.startswith(b"\x80"):
            raise _Refused("it does not begin as pickles from protocol 2 on do")
        for _ in range(MOST_STEPS):
            step = self._content[self._at : self._at + 1]
            self._at += 1
            if step == b".":
                return self._end()
            self._follow(step)
            if len(self._stack) + len(self._marks) > MOST_STACK:
                raise _Refused(f"it keeps more than {MOST_STACK} things open")
        raise _Refused(f"it has more than {MOST_STEPS} instructions")

    def _follow(self, step: bytes) -> None:
        if step in self._steps:
            self._steps[step]()
        elif step in _COUNTED:
            self._counted(*_COUNTED[step])
        elif step in _NUMBERS:
            self._push(self._number(_NUMBERS[step]))
        elif step in _CONSTANTS:
            self._push(_CONSTANTS[step])
        elif step in _PUTS:
            self._put(self._number(_PUTS[step]))
        elif step in _GETS:
            self._get(self._number(_GETS[step]))
        elif not step:
            raise _Refused("it ends early")
        else:
            what = _REFUSED.get(step) or f"the instruction {step!r}, which no data of protocol 2 or later needs"
            raise _Refused(f"it has {what}")

    def _end(self) -> Any:
        (made,) = self._pop(1)
        if self._stack or self._marks:
            raise _Refused("it ends in the middle")
        return made

    def _take(self, count: int) -> memoryview:
        """Return the next bytes, which the file must have."""
        start, self._at = self._at, self._at + count
        if self._at > len(self._content):
            raise _Refused("it ends early")
        return memoryview(self._content)[start : self._at]

    def _number(self, kind: str) -> Any:
        return struct.unpack(kind, self._take(struct.calcsize(kind)))[0]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[Any]:
        """Take the last things from the stack; those below the last mark are not to be had."""
        start = len(self._stack) - count
        if start < (self._marks[-1] if self._marks else 0):
            raise _Refused("it takes more than it has put there")
        popped = self._stack[start:]
        del self._stack[start:]
        return popped

    def _above_mark(self) -> list[Any]:
        if not self._marks:
            raise _Refused("it has no mark where it needs one")
        popped = self._pop(len(self._stack) - self._marks[-1])
        self._marks.pop()
        return popped

    def _top(self) -> Any:
        (top,) = self._pop(1)
        self._push(top)
        return top

    def _protocol(self) -> None:
        (version,) = self._take(1)
        if not 2 <= version <= 5:
            raise _Refused(f"its protocol is {version}, and 2 to 5 are read")

    def _frame(self) -> None:
        # How much a reader may buffer.
        self._take(8)

    def _counted(self, width: int, kind: str) -> None:
        content = bytes(self._take(int.from_bytes(self._take(width), "little")))
        if kind == _BYTES:
            self._push(content)
            return
        try:
            self._push(content.decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise _Refused("it has a text that is no UTF-8") from None

    def _long(self) -> None:
        (digits,) = self._take(1)
        if digits > MOST_DIGITS:
            raise _Refused(f"it has a whole number of {digits} bytes")
        self._push(int.from_bytes(self._take(digits), "little", signed=True))

    def _tuple(self, items: list[Any]) -> None:
        self._push(tuple(items))
        _check_nesting(self._stack[-1], MOST_NESTED)

    def _append(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise _Refused(f"it appends to {_word(target)}")
        target.extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not dict:
            raise _Refused(f"it sets an item of {_word(target)}")
        target.update(_paired(items))

    def _put(self, slot: int) -> None:
        top = self._top()
        if isinstance(top, _Unbuilt):
            top.slots.append(slot)
        self._memo[slot] = top

    def _get(self, slot: int) -> None:
        if slot not in self._memo:
            raise _Refused(f"it uses number {slot} of its memo, which is empty")
        value = self._memo[slot]
        # What can hold things is used once: so nothing holds itself, and nothing grows by being used again and again.
        if type(value) in (list, dict, tuple) or isinstance(value, _Unbuilt):
            raise _Refused(f"it uses {_word(value)} twice")
        if type(value) in (str, bytes) and len(value) > MOST_SHARED:
            raise _Refused(f"it uses a text of {len(value)} characters twice")
        self._push(value)

    def _global(self) -> None:
        words = []
        for _ in range(2):
            end = self._content.find(b"\n", self._at, self._at + 200)
            if end < 0:
                raise _Refused("it has a name that does not end")
            words.append(bytes(self._take(end - self._at)).decode("latin1"))
            self._take(1)
        self._name(*words)

    def _name(self, module: Any, name: Any) -> None:
        known = _NAMES.get((module, name)) if type(module) is type(name) is str else None
        if known is None:
            raise _Refused(f"it names {shorten(f'{module}.{name}')!r}, which is no data")
        self._push(known)

    def _reduce(self) -> None:
        called, arguments = self._pop(2)
        if not isinstance(called, _Name) or type(arguments) is not tuple:
            raise _Refused(f"it calls {_word(called)}")
        try:
            self._push(called.make(*arguments))
        except TypeError:
            raise _Refused(f"it calls {called.name} with something else than numpy does") from None

    def _build(self) -> None:
        target, state = self._pop(2)
        if type(state) is not tuple:
            raise _Refused(f"it sets the state of {_word(target)}")
        if isinstance(target, _Kind):
            _set_order(target, state)
            self._push(target)
        elif isinstance(target, _Unbuilt):
            array = _array_of(state)
            for slot in target.slots:
                self._memo[slot] = array
            self._push(array)
        else:
            raise _Refused(f"it sets the state of {_word(target)}")


def _paired(items: list[Any]) -> dict[Any, Any]:
    """Return a dict of keys and values in turn. Keys are texts and whole numbers: hashing others may run deep."""
    if len(items) % 2:
        raise _Refused("it has a key without a value")
    for key in items[::2]:
        if type(key) not in (str, bytes, int):
            raise _Refused(f"it has {_word(key)} for a key")
    return dict(zip(items[::2], items[1::2], strict=True))


def _check_nesting(value: Any, left: int) -> None:
    """Raise _Refused for tuples in tuples that go deeper than ``left``."""
    if not left:
        raise _Refused(f"it has tuples in tuples, more than {MOST_NESTED} deep")
    for item in value:
        if type(item) is tuple:
            _check_nesting(item, left - 1)


def _word(value: Any) -> str:
    """Return what a thing is, for messages."""
    if isinstance(value, _Name):
        return value.name
    if isinstance(value, _Unbuilt | np.ndarray):
        return "an array"
    return f"a {type(value).__name__.strip('_').lower()}"


def _text(value: Any) -> str:
    """Return a text of Python 2 or 3, where one is needed."""
    if type(value) is bytes:
        return value.decode("latin1")
    return value if type(value) is str else _wrong("a text")


def _wrong(what: str) -> NoReturn:
    raise _Refused(f"it has something else where numpy writes {what}")


def _count(value: Any) -> int:
    """Return how many numbers an array of a shape has."""
    if type(value) is not tuple or len(value) > 8 or not all(type(side) is int and side >= 0 for side in value):
        _wrong("a shape")
    return prod(value)


def _kind(name: Any, *_: Any) -> _Kind:
    """Stand for ``numpy.dtype``."""
    text = _text(name)
    # Of two or three characters there is only a letter and a size; longer texts may describe records.
    if len(text) > 3 or text.lstrip("<>|=")[:1] not in _KINDS:
        raise _Refused(f"it has an array of {shorten(text)!r}; read are numbers alone, never objects")
    try:
        return _Kind(np.dtype(text))
    except TypeError:
        raise _Refused(f"it has an array of {shorten(text)!r}, which numpy does not know") from None


def _set_order(kind: _Kind, state: tuple[Any, ...]) -> None:
    """Set the byte order of a dtype from its state: version, order, and what only records and objects have."""
    if len(state) < 5 or any(part is not None for part in state[2:5]):
        raise _Refused("it has an array of records")
    order = _text(state[1])
    if order not in ("<", ">", "|", "="):
        _wrong("a byte order")
    if order in ("<", ">"):
        kind.dtype = kind.dtype.newbyteorder("<" if order == "<" else ">")


def _unbuilt(kind: Any, shape: Any, *_: Any) -> _Unbuilt:
    """Stand for ``numpy.core.multiarray._reconstruct``: an empty array, whose content follows."""
    if kind is not _NDARRAY or _count(shape):
        _wrong("an array")
    return _Unbuilt()


def _array_of(state: tuple[Any, ...]) -> NDArray[Any]:
    """Return the array of a state: version, shape, kind, whether it goes down the columns first, content."""
    if len(state) not in (4, 5):
        _wrong("an array's content")
    shape, kind, by_column, content = state[-4:]
    return _array(content, kind, shape, "F" if by_column else "C")


def _array(content: Any, kind: Any, shape: Any, order: Any = "C") -> NDArray[Any]:
    """Stand for ``numpy.core.numeric._frombuffer``; the content must have as many bytes as the shape needs."""
    if not isinstance(kind, _Kind):
        _wrong("the kind of an array")
    if type(content) is not bytes:
        raise _Refused(f"it has {_word(content)} for the content of an array; arrays of objects are not read")
    needed = _count(shape) * kind.dtype.itemsize
    if len(content) != needed:
        raise _Refused(f"it has {len(content)} bytes for an array that needs {needed}")
    if order not in ("C", "F", b"C", b"F"):
        _wrong("an array's order")
    try:
        return np.frombuffer(content, kind.dtype).reshape(shape, order="F" if order in ("F", b"F") else "C")
    except (ValueError, OverflowError):  # no bytes, and sides beyond any array
        _wrong("a shape")


def _scalar(kind: Any, content: Any) -> Any:
    """Stand for ``numpy.core.multiarray.scalar``: one number."""
    return _array(content, kind, ()).item()


def _encoded(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    """Stand for ``_codecs.encode``, by which Python 3 writes bytes for Python 2."""
    if type(text) is not str or _text(encoding) not in ("latin1", "latin-1"):
        _wrong("bytes as a text")
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        _wrong("bytes as a text")


def _bytes(*arguments: Any) -> bytes:
    """Stand for ``bytes``, by which Python 3 writes empty bytes for Python 2."""
    return b"" if not arguments else _wrong("empty bytes")


def _uncalled(*_: Any) -> NoReturn:
    _wrong("an array")


_NDARRAY = _Name("numpy.ndarray", _uncalled)
_NAMES = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Name("numpy.dtype", _kind),
    ("_codecs", "encode"): _Name("_codecs.encode", _encoded),
    ("__builtin__", "bytes"): _Name("bytes", _bytes),
    ("builtins", "bytes"): _Name("bytes", _bytes),
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Name("numpy's _reconstruct", _unbuilt)
    _NAMES[f"{_core}.multiarray", "scalar"] = _Name("numpy's scalar", _scalar)
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _Name("numpy's _frombuffer", _array)
