"""Which files registered the components of a recipe: a run records it, and an error tells it where they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue

from rushkit import registries
from rushkit.recipe.components import SECTIONS
from rushkit.recipe.schema import Recipe
from rushkit.registrations import source_of
from rushkit.registry import Registry

# The key of a checkpoint's metadata that holds it.
REGISTERED = "registered"

Registered = dict[str, JsonValue]


def registered_files(recipe: Recipe) -> Registered:
    """Return the file of each component that was registered by hand: its name, without a folder, and its hash.

    ``{"noise triangle": {"file": "triangle.py", "sha256": "e58b..."}}``; both texts are empty for a notebook.
    """
    made: Registered = {}
    for registry, name in components_of(recipe):
        if name in registry and (source := source_of(registry.entry(name))) is not None:
            file, sha256 = source
            made[f"{registry.kind} {name}"] = {"file": file, "sha256": sha256}
    return made


def components_of(recipe: Recipe) -> Iterator[tuple[Registry, str]]:
    """Yield the registry and the name of every component that a recipe names."""
    for section, (registry, model) in SECTIONS.items():
        part = getattr(recipe, section)
        for item in part if isinstance(part, list) else [part]:
            yield registry, getattr(item, model.NAMED_BY)
    yield from ((registries.trackers, name) for name in recipe.system.trackers)


def open_registered(recorded: object) -> list[str]:
    """Take what a run or a checkpoint says of its files: an error on a name that is not registered then tells its file.

    Returns:
        A sentence for each component that is registered now by a file of other contents.
    """
    altered = []
    for registry, name, file, sha256 in _entries(recorded):
        if name not in registry:
            registry.known_files[name] = file
            continue
        now = source_of(registry.entry(name))
        if now is not None and now[1] and sha256 and now[1] != sha256:
            altered.append(f"the {registry.kind} {name} comes from another {now[0]} than the run was made with")
    return altered


def _entries(recorded: object) -> Iterator[tuple[Registry, str, str, str]]:
    """Yield registry, name, file and hash; what somebody else's file has there that is none of these is left out."""
    for key, source in recorded.items() if isinstance(recorded, dict) else ():
        registry = next((each for each in registries.ALL if str(key).startswith(f"{each.kind} ")), None)
        if registry is None or not isinstance(source, dict):
            continue
        file, sha256 = source.get("file"), source.get("sha256")
        if isinstance(file, str) and isinstance(sha256, str):
            yield registry, str(key).removeprefix(f"{registry.kind} "), Path(file).name, sha256
