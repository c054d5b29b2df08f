"""Read a recipe's file and the chain of files that it extends."""

from __future__ import annotations

from pathlib import Path

from rushkit.errors import UsageError, shorten
from rushkit.paths import reason
from rushkit.recipe import toml
from rushkit.recipe.draft import Draft
from rushkit.recipe.find import find_recipe
from rushkit.recipe.origins import origins_of

# Files that one recipe may be made of by ``extends``.
_LONGEST_CHAIN = 16


def read_chain(path: Path, extended_by: tuple[Path, ...] = ()) -> Draft:
    """Read a file, merged over the files that it extends.

    Args:
        path: The file.
        extended_by: The files that extend it, resolved.

    Raises:
        UsageError: a file that cannot be read, is not TOML, or extends what is no recipe; a circle; too long a chain.
    """
    if path.resolve() in extended_by:
        names = " -> ".join(step.name for step in (*extended_by, path))
        raise UsageError(
            f"recipes extend each other in a circle: {names}",
            f'take out one `extends`, or extend rushkit\'s own with "rushkit/{path.stem}"',
        )
    if len(extended_by) == _LONGEST_CHAIN:
        raise UsageError(
            f"{path} is the recipe number {len(extended_by) + 1} that is extended, one by another",
            f"at most {_LONGEST_CHAIN} recipes make one: write some of them together",
        )
    draft = _read(path)
    parent = draft.table.pop("extends", None)
    place = draft.origins.pop("extends", str(path))
    if parent is None:
        return draft
    if not isinstance(parent, str):
        raise UsageError(
            f"{place}: extends: must be the name of one recipe (got {shorten(repr(parent))})",
            'for example extends = "cifar10"',
        )
    base = read_chain(find_recipe(parent, path.parent), (*extended_by, path.resolve()))
    # A recipe is called by its own name or its file's, never by that of the one it extends.
    base.table.pop("name", None)
    base.origins.pop("name", None)
    return base.extended_by(draft)


def parse(text: str, file: str) -> Draft:
    """Parse a TOML text that origins and messages call ``file``. Raises UsageError if it is not TOML."""
    try:
        return Draft(toml.loads(text), origins_of(text, file))
    except ValueError as error:
        raise UsageError(f"{file} is not a valid recipe: {error}", "`rushkit recipe show cifar10` shows one") from None


def _read(path: Path) -> Draft:
    try:
        text = toml.read_text(path)
    except (OSError, ValueError) as error:
        hint = f"it must be a text file in UTF-8, of at most {toml.MAX_CHARACTERS} characters"
        raise UsageError(f"the recipe {path} cannot be read: {reason(error)}", hint) from error
    return parse(text, str(path))
