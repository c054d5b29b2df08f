"""Bounds on the time and memory that opening a file of torch.save takes, checked without opening it.

``torch.load(weights_only=True)`` runs no code from a file, but it trusts its sizes: an archive may unpack to far more
than it holds, and a few bytes of pickle may build, hash or print exponentially much. Such files are detected here.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from dataclasses import dataclass, field

from rushkit.errors import CheckpointError
from rushkit.foreign.bystanders import STAND_INS

ZIP_START = b"PK\x03\x04"
# Leaves of one tuple with all that it holds; those of a state dict (sizes, strides, arguments) have some dozens.
_MOST_LEAVES = 10_000
# Pickles at the start of a file from before torch.save wrote archives: magic number, version, system, object, keys.
_LEGACY_PICKLES = 5
# What a state dict calls. torch lets more pass, such as its tensor types and bytearray, which make room for any number.
_CALLED = frozenset(
    {
        "collections.Counter",
        "collections.OrderedDict",
        "builtins.complex",
        "builtins.set",
        "__builtin__.complex",
        "__builtin__.set",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch._tensor._rebuild_from_type_v2",
        "torch._utils._rebuild_meta_tensor_no_storage",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_qtensor",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_sparse_csr_tensor",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        *STAND_INS,
    }
)
# How the bytes of a number are written: with more text it makes room for any number.
_ENCODE, _NUMBER_CHARACTERS = "_codecs.encode", 16
# It calls the first of its arguments.
_CALLS_ITS_FIRST = "torch._tensor._rebuild_from_type_v2"
_HINT = "no file of torch.save is like this: get it again, from where it was written"
# On damaged archives zipfile raises more than its own error.
_ZIP_ERRORS = (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError, EOFError)


class PickledObject(Exception):
    """A pickle calls something that no state dict needs.

    Attributes:
        name: Name of what it calls, such as ``"os.system"``; empty for an object that the pickle itself builds.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def check_bounds(data: bytes, name: str) -> None:
    """Check that a file can be opened in time and memory proportional to its length.

    Raises:
        CheckpointError: an archive that is damaged, packed, or holds more than the file; a pickle that grows.
        PickledObject: a pickle that builds more than tensors in dictionaries.
    """
    if data.startswith(ZIP_START):
        for pickle in _pickles_of_archive(data, name):
            _check_pickle(io.BytesIO(pickle), name)
        return
    stream = io.BytesIO(data)
    for _ in range(_LEGACY_PICKLES):
        if not _check_pickle(stream, name):
            return


def archive_names(data: bytes) -> list[str]:
    """Return the names in a zip archive; none where the data is not an archive or is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except _ZIP_ERRORS:
        return []


def _pickles_of_archive(data: bytes, name: str) -> list[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            if packed or sum(entry.file_size for entry in entries) > len(data):
                raise CheckpointError(f"{name} is a packed archive, which may hold more than memory", _HINT)
            if len({entry.filename for entry in entries}) < len(entries):
                raise CheckpointError(f"{name} is an archive with two files of one name", _HINT)
            return [archive.read(entry) for entry in entries if entry.filename.endswith(".pkl")]
    except _ZIP_ERRORS as error:
        raise CheckpointError(
            f"{name} is a damaged archive: {error}", "it is cut short or altered: get it again"
        ) from error


@dataclass(frozen=True)
class _Item:
    """An object on a pickle's stack.

    Attributes:
        leaves: Number of objects visited when it is hashed, compared or printed; 1 except for tuples.
        name: Name of a global, such as ``"torch.Size"``; otherwise empty.
        first: Name of a tuple's first item, if that is a global; otherwise empty.
        brief: Whether it is a text of a few characters, or a tuple that begins with one.
    """

    leaves: int = 1
    name: str = ""
    first: str = ""
    brief: bool = False


_MARK = _Item(0)


@dataclass
class _Stack:
    """The stack and the memo of a pickle that is interpreted without building any object."""

    items: list[_Item] = field(default_factory=list)
    memo: dict[int, _Item] = field(default_factory=dict)

    @property
    def top(self) -> _Item:
        return self.items[-1]

    def pop(self, count: int) -> list[_Item]:
        """Remove and return the topmost items, in their order."""
        if count > len(self.items):
            raise IndexError("the stack is empty")
        taken = self.items[len(self.items) - count :]
        del self.items[len(self.items) - count :]
        return taken

    def pop_to_mark(self) -> list[_Item]:
        """Remove the items above the last mark, and the mark; return the items in their order."""
        taken: list[_Item] = []
        while (item := self.items.pop()) is not _MARK:
            taken.append(item)
        return taken[::-1]


def _check_pickle(stream: io.BytesIO, name: str) -> bool:
    """Interpret one pickle. Return False if it is not one: torch reads the same opcodes and stops there as well."""
    stack = _Stack()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            _follow(stack, opcode, argument)
            if stack.items and stack.top.leaves > _MOST_LEAVES:
                raise CheckpointError(f"{name} has a pickle that grows beyond all bounds when it is opened", _HINT)
    # An unknown opcode, an argument that is cut short or no number, an empty stack.
    except (ValueError, LookupError, OverflowError):
        return False
    return True


def _follow(stack: _Stack, opcode: pickletools.OpcodeInfo, argument: object) -> None:
    """Apply the effect of an opcode to the stack."""
    match opcode.name:
        case "GLOBAL":
            stack.items.append(_Item(name=str(argument).replace(" ", ".")))
        case "MARK":
            stack.items.append(_MARK)
        case "PUT" | "BINPUT" | "LONG_BINPUT":
            stack.memo[int(str(argument))] = stack.top
        case "MEMOIZE":
            stack.memo[len(stack.memo)] = stack.top
        case "GET" | "BINGET" | "LONG_BINGET":
            stack.items.append(stack.memo[int(str(argument))])
        case "DUP":
            stack.items.append(stack.top)
        case "TUPLE":
            stack.items.append(_tuple(stack.pop_to_mark()))
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            stack.items.append(_tuple(stack.pop(int(opcode.name[-1]))))
        case "REDUCE" | "NEWOBJ":
            called, arguments = stack.pop(2)
            for wanted in (called.name, arguments.first if called.name == _CALLS_ITS_FIRST else called.name):
                if wanted not in _CALLED and not (wanted == _ENCODE and arguments.brief):
                    raise PickledObject(wanted)
            stack.items.append(_Item())
        case "BINUNICODE" | "SHORT_BINUNICODE" | "UNICODE":
            stack.items.append(_Item(brief=len(str(argument)) <= _NUMBER_CHARACTERS))
        case _:
            before = opcode.stack_before
            if pickletools.stackslice in before:
                stack.pop_to_mark()
                stack.pop(before.index(pickletools.markobject))
            else:
                stack.pop(len(before))
            stack.items += [_Item()] * len(opcode.stack_after)


def _tuple(items: list[_Item]) -> _Item:
    first = items[0] if items else _Item()
    return _Item(1 + sum(item.leaves for item in items), first=first.name, brief=first.brief)
