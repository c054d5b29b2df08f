"""The code that the user names, such as with ``--model``. It alone is run, whatever a recipe, a run or a study says."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rushkit.errors import (
    PluginError,
    RushkitError,
    UsageError,
    did_you_mean,
    first_few,
    shell_line,
    shorten,
)
from rushkit.paths import expand, is_file, read_file
from rushkit.registrations import forgetting, line_of, python_file, run_file

FLAG = "--model"
FRONT = "--front"
SURROGATE = "--surrogate"
ALSO = "--also"
# In place of code after --surrogate: the images themselves, for what stands before a model.
IDENTITY = "identity"
# What the code of a flag is, and an example of its name.
_KINDS = {
    FLAG: ("the model", "Net"),
    FRONT: ("what stands before the model", "jpeg"),
    SURROGATE: ("the surrogate", "smooth"),
    ALSO: ("an attack of one's own", "attack"),
}
# The flag as a variable of the environment: one name a line.
VARIABLE = "RUSHKIT_MODEL"
ONNX = "onnx:"
# What is read of a file to show the names in it.
_MOST_SOURCE = 1 << 22


@dataclass(frozen=True)
class Code:
    """The place of somebody's classifier.

    Attributes:
        place: An absolute path of a Python file or of an ONNX file, or the dotted name of an installed module.
        name: The name in it, which may be dotted; "" for an ONNX file.
        is_onnx: Whether it is an ONNX file.
    """

    place: str
    name: str
    is_onnx: bool = False

    @property
    def is_file(self) -> bool:
        """Whether it is a file, and not an installed module."""
        return self.is_onnx or self.place.endswith(".py")

    @property
    def key(self) -> str:
        """What tells it from other code without the folder that it lies in."""
        return f"{Path(self.place).name if self.is_file else self.place}:{self.name}"

    def __str__(self) -> str:
        return f"{ONNX}{self.place}" if self.is_onnx else f"{self.place}:{self.name}"


@dataclass
class _Named:
    """What the user named in this command."""

    codes: list[Code] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    # The module that a file was made into when it was last run.
    ran: dict[str, Any] = field(default_factory=dict)


_named: ContextVar[_Named | None] = ContextVar("named code", default=None)


@contextlib.contextmanager
def naming() -> Iterator[None]:
    """Let code be named inside; what was run of it is forgotten at the end, and so is what was handed on."""
    named, before = _Named(), os.environ.get(VARIABLE)
    token = _named.set(named)
    try:
        with forgetting(named.folders):
            yield
    finally:
        _named.reset(token)
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def name_code(text: str, flag: str = FLAG) -> Code:
    """Take down that the user names this code, so that ``run_code`` runs it. Nothing is run yet.

    Args:
        text: ``"FILE.py:NAME"``, ``"MODULE:NAME"`` or ``"onnx:FILE"``.
        flag: The flag that names it.

    Raises:
        UsageError: it is none of them, or there is no such file.
    """
    code = read_code(text, flag=flag)
    if (named := _named.get()) is None:
        raise RuntimeError("code is named outside of naming()")
    named.codes.append(code)
    return code


def lying(path: str, beside: Path | None = None) -> Path:
    """Return where a file lies: in the folder of the file that names it, or else in the working folder."""
    named = expand(path)
    if beside is not None and not named.is_absolute() and is_file(beside / named):
        return beside / named
    return named


def read_code(text: str, beside: Path | None = None, flag: str = FLAG) -> Code:
    """Read what ``--model`` or a flag like it says; a path becomes absolute. Raises UsageError as ``name_code``.

    Args:
        text: The text.
        beside: The folder of the file that says it, where a relative path may start; None: the working folder alone.
        flag: The flag that names it.
    """
    if text.startswith(ONNX) and flag == FLAG:
        path = lying(text.removeprefix(ONNX), beside)
        if not is_file(path):
            raise UsageError(f"there is no file {path}", "a relative path starts in the working folder")
        return Code(str(path.resolve()), "", is_onnx=True)
    place, colon, name = text.rpartition(":")
    if text.endswith(".onnx") and flag == FLAG and is_file(expand(text)):
        raise UsageError(f"{flag} {shorten(text)} is an ONNX file by its name", shell_line(flag, f"{ONNX}{text}"))
    if text.endswith(".py") and is_file(expand(text)):
        names = _names_in(expand(text))
        raise UsageError(
            f"{flag} {shorten(text)} does not say which name in it is meant",
            f"it defines {first_few(names, 8)}: {shell_line(flag, f'{text}:{names[0]}')}"
            if names
            else f"for example {shell_line(flag, f'{text}:{_KINDS[flag][1]}')}",
        )
    if not colon or not place or not all(part.isidentifier() for part in name.split(".")):
        example = "--model defence.py:Net, --model timm.models:resnet50 or --model onnx:net.onnx"
        raise UsageError(
            f"{flag} {shorten(text)!r} is not FILE.py:NAME{', MODULE:NAME or onnx:FILE' * (flag == FLAG)}",
            f"for example {example if flag == FLAG else f'{flag} defence.py:{_KINDS[flag][1]}'}",
        )
    if place.endswith(".py") or "/" in place or "\\" in place or is_file(lying(place, beside)):
        return Code(str(python_file(str(lying(place, beside)), flag)), name)
    if not all(part.isidentifier() for part in place.split(".")):
        raise UsageError(
            f"{flag} {shorten(text)!r} names neither a Python file nor a module",
            "the name of a file ends in .py; that of a module is dotted, such as timm.models",
        )
    return Code(place, name)


def consented(code: str, flag: str = FLAG) -> Code:
    """Return the code that the user named in this command for what a recipe says; its file may lie elsewhere now.

    Args:
        code: The place and the name in it, as in the recipe.
        flag: The flag that names such code.

    Raises:
        UsageError: the user named no such code.
    """
    named = _named.get()
    codes = [*(named.codes if named else []), *_of_environment()]
    wanted = Code(*_split(code))
    for fits in (lambda each: str(each) == code, lambda each: each.key == wanted.key):
        if found := next(filter(fits, codes), None):
            return found
    raise UsageError(
        f"{_KINDS[flag][0]} is code, "
        f"{shorten(wanted.key.removesuffix(':'))}, and only code that the command names is run",
        f"name it, if you trust it: {shell_line(flag, shorten(code, 300))}",
    )


def hand_on(codes: Sequence[str]) -> None:
    """Let the processes that this one starts run the code that the user named, too."""
    os.environ[VARIABLE] = "\n".join(dict.fromkeys(str(read_code(code)) for code in codes))


def _of_environment() -> list[Code]:
    return [read_code(line) for line in os.environ.get(VARIABLE, "").splitlines() if line.strip()]


def _split(code: str) -> tuple[str, str, bool]:
    if code.startswith(ONNX):
        return code.removeprefix(ONNX), "", True
    place, _, name = code.rpartition(":")
    return place, name, False


def run_code(code: Code, again: bool = True) -> Any:
    """Run the file or import the module of code that the user named, and return the object of its name.

    Args:
        code: What the user named.
        again: Whether to run a file that has been run in this command; else what it was made into then is used, so that
            its classes are those of the model that came from the same file.

    Raises:
        UsageError: there is no such module, or no such name in it.
        PluginError: it raises an error when it is run.
    """
    named = _named.get()
    assert named is not None, "outside of naming()"
    assert code in named.codes or code in _of_environment(), "not named"
    if code.is_file:
        path = Path(code.place)
        named.folders.add(path.parent)
        if again or code.place not in named.ran:
            named.ran[code.place] = run_file(path)
        found: Any = named.ran[code.place]
    else:
        found = _imported(code)
    where, whole = (Path(code.place).name if code.is_file else code.place), found
    for part in code.name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            known = [name for name, value in vars(whole).items() if callable(value) and not name.startswith("_")]
            hint = (
                did_you_mean(code.name, known) or f"it has {first_few(sorted(known), 8)}"
                if known
                else "it has no names"
            )
            raise UsageError(f"there is no {shorten(code.name)} in {where}", hint) from None
    return found


def source_hash(code: Code) -> str:
    """Return the SHA-256 of the file of some code, or of the file of its module; "" if there is none."""
    path: str | None = code.place
    if not code.is_file:
        module = sys.modules.get(code.place)
        path = getattr(module, "__file__", None)
    try:
        return hashlib.sha256(read_file(path)).hexdigest() if path else ""
    except OSError:
        return ""


def called(code: Code, error: BaseException) -> PluginError:
    """Return the error for code of the user's that raises one when it is called."""
    where = ""
    if code.is_file:
        where = line_of(error, Path(code.place))
    said = (str(error).strip().splitlines() or [""])[0]
    return PluginError(
        f"{code.key} cannot be made: {where}{type(error).__name__}: {said}", "--debug shows the traceback"
    )


def _imported(code: Code) -> Any:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(code.place)
    except RushkitError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (code.place == error.name or code.place.startswith(f"{error.name}.")):
            by_path = shell_line(FLAG, f"{code.place.replace('.', '/')}.py:{code.name}")
            raise UsageError(
                f"there is no module {shorten(code.place)} to import",
                f"install what brings it; a file is named by its path: {by_path}",
            ) from None
        raise PluginError(
            f"{code.place} cannot be imported: it needs {error.name}", "install it beside rushkit"
        ) from error
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise PluginError(
            f"{code.place} cannot be imported: {type(error).__name__}: {error} (line {last.lineno} of "
            f"{Path(last.filename).name})",
            shell_line("python", "-c", f"import {code.place}"),
        ) from error


def _names_in(path: Path) -> list[str]:
    """Return the classes and functions that a Python file defines, read and not run."""
    try:
        tree = ast.parse(read_file(path, _MOST_SOURCE))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
