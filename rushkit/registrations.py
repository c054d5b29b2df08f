"""Run Python files that the user names, for what they register: ``--import FILE.py`` and ``RUSHKIT_IMPORT``.

Which file registered a component is asked here too, so that a run can record its name and its hash. Nothing that a
run's folder names is ever run.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence, Set
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from rushkit import registries
from rushkit.errors import PluginError, RushkitError, UsageError, shell_line
from rushkit.paths import expand, is_file, read_file
from rushkit.registry import Entry

VARIABLE = "RUSHKIT_IMPORT"


@contextlib.contextmanager
def registered_by(files: Sequence[str]) -> Iterator[None]:
    """Run Python files, and forget what they registered when the block ends.

    A file is run as a module, not as ``__main__``: what stands under ``if __name__ == "__main__"`` is left out. What it
    prints goes to stderr. Modules beside it can be imported.

    >>> with registered_by(["triangle.py"]):
    ...     rushkit.noises.create("triangle", scale=0.4)

    Raises:
        UsageError: a file is not there, is no Python file, or registers nothing.
        PluginError: a file raises something that is no error of rushkit's.
    """
    if not files:
        yield
        return
    paths = list(dict.fromkeys(map(python_file, files)))
    with contextlib.ExitStack() as stack:
        for registry in registries.ALL:
            stack.enter_context(registry.restored())
        stack.enter_context(forgetting({path.parent for path in paths}))
        for path in paths:
            _run(path)
        yield


@contextlib.contextmanager
def forgetting(folders: Set[Path]) -> Iterator[None]:
    """Forget the modules of these folders that are imported inside; folders may be added until the block ends."""
    modules, search_path = set(sys.modules), list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = search_path
        for name in set(sys.modules) - modules:
            place = getattr(sys.modules[name], "__file__", None)
            if place and Path(place).parent in folders:
                del sys.modules[name]


def source_of(entry: Entry) -> tuple[str, str] | None:
    """Return the name and the SHA-256 of the file that registered a component by hand; None for every other component.

    Both are empty if no file did, as in a notebook; the hash is empty if the file cannot be read.
    """
    if isinstance(entry.target, str):
        return None
    factory = entry.target.func if isinstance(entry.target, partial) else entry.target
    module = sys.modules.get(getattr(factory, "__module__", ""))
    file = getattr(module, "__file__", None)
    if not file:
        return "", ""
    try:
        return Path(file).name, hashlib.sha256(read_file(file)).hexdigest()
    except OSError:
        return Path(file).name, ""


def python_file(name: str, flag: str = "--import") -> Path:
    """Return the path of a Python file that a flag names. Raises UsageError if there is none of this name."""
    path = expand(name)
    if path.suffix != ".py":
        raise UsageError(f"{name} is not a Python file", f"{flag} takes the path of a file whose name ends in .py")
    if not is_file(path):
        raise UsageError(f"there is no file {name} to import", "a relative path starts in the working folder")
    return path.resolve()


def _run(file: Path) -> None:
    before = [entry for registry in registries.ALL for entry in registry.by_hand()]
    run_file(file)
    if all(any(entry is old for old in before) for registry in registries.ALL for entry in registry.by_hand()):
        raise UsageError(
            f"{file.name} registers nothing", 'decorate what it brings, such as @rushkit.noises.register("name")'
        )


def run_file(file: Path) -> ModuleType:
    """Run a Python file as a module, and return it. Modules beside it can be imported from now on.

    Raises:
        PluginError: it raises something that is no error of rushkit's.
    """
    loader = SourceFileLoader(_module_name(file), str(file))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    # At the end: a file here must not stand in for an installed module.
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:
        # stdout is for the result of the command.
        with contextlib.redirect_stdout(sys.stderr), _without_compiled_files():
            loader.exec_module(module)
        return module
    except RushkitError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{file.name} cannot be imported: {line_of(error, file)}{type(error).__name__}: {error}",
            f'{shell_line("python", file)} runs it; what is no registration stands under `if __name__ == "__main__":`',
        ) from error


@contextlib.contextmanager
def _without_compiled_files() -> Iterator[None]:
    """Leave no folder of compiled files beside the user's."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _module_name(file: Path) -> str:
    """Return a name for the module, which is the owner of what it registers: that of the file, if no other has it."""
    name = re.sub(r"\W", "_", file.stem)
    if name not in sys.modules:
        spec = importlib.util.find_spec(name)
        if spec is None or (spec.origin and Path(spec.origin).resolve() == file):
            return name
    return f"{name}_{hashlib.sha256(os.fsencode(file)).hexdigest()[:6]}"


def line_of(error: BaseException, file: Path) -> str:
    """Return the line of the file that an error comes from, for a message."""
    if isinstance(error, SyntaxError):
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"line {lines[-1]}: " if lines else ""
