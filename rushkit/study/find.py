"""Find studies: by path, in ``studies/`` of the working folder, and among those that rushkit ships."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rushkit.errors import UsageError, did_you_mean, shorten
from rushkit.paths import expand, is_file, why_no_file
from rushkit.recipe.find import shipped_folder
from rushkit.registry import BUILTIN_OWNER

HERE = Path("studies")
# A study's name is that of its folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def available() -> dict[str, str]:
    """Map each study's name to its source: a path in ``studies/`` of this folder, or ``rushkit``."""
    shipped, here = shipped_folder("studies"), HERE
    sources = {path.stem: BUILTIN_OWNER for path in shipped.glob("*.toml")}
    if here.resolve() != shipped:
        sources |= {path.stem: str(path) for path in here.glob("*.toml")}
    return dict(sorted(sources.items()))


def find_study(name: str) -> Path:
    """Return the file of a study: a path, a name in ``studies/`` here, or one that rushkit ships.

    Raises:
        UsageError: no such study, or a file whose name cannot be that of a folder.
    """
    path = _file(name)
    if not _NAME.fullmatch(path.stem):
        raise UsageError(
            f"a study cannot be called {shorten(path.stem)!r}: its results lie in a folder of that name",
            "rename the file: letters, digits, '.', '_' and '-', at most 80 of them",
        )
    return path


def _file(name: str) -> Path:
    if name.endswith(".toml") or "/" in name or os.sep in name:
        path = expand(name)
        if is_file(path):
            return path
        why = f": {unusable}" if (unusable := why_no_file(path)) else ""
        raise UsageError(f"there is no study file {path}{why}", "`rushkit study list` shows the studies by name")
    for folder in (HERE, shipped_folder("studies")):
        if is_file(folder / f"{name}.toml"):
            return folder / f"{name}.toml"
    known = available()
    hint = did_you_mean(name, known, cutoff=0.4) or f"there are: {', '.join(known)}."
    raise UsageError(f"unknown study {shorten(name)!r}", f"{hint} A path ending in .toml works too.")
