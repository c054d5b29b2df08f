"""The engine of a study, and its options: ``[engine.NAME]`` of the study, of a file of the user's, and of the flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rushkit import registries
from rushkit.errors import UsageError
from rushkit.paths import reason
from rushkit.recipe import toml
from rushkit.recipe.sections import Option
from rushkit.study.engines import Engine

_TABLES: TypeAdapter[dict[str, dict[str, Option]]] = TypeAdapter(dict[str, dict[str, Option]])


def make_engine(
    name: str, of_study: Mapping[str, Mapping[str, Option]], file: str | None = None, **flags: Option
) -> Engine:
    """Return an engine with the options of a study, over them those of a file, and over them those of flags.

    Args:
        name: The engine.
        of_study: Engine -> options.
        file: Path of a TOML file with tables ``[engine.NAME]``; None for none.
        flags: Options of this engine.

    Raises:
        UsageError: no such engine or option, or a file that cannot be used.
        RushkitError: the engine is not installed, or cannot be reached.
    """
    options = dict(of_study.get(name, {}))
    if file is not None:
        options |= _of_file(Path(file)).get(name, {})
    engine = registries.engines.create(name, **(options | flags))
    assert isinstance(engine, Engine)
    return engine


def _of_file(path: Path) -> dict[str, dict[str, Option]]:
    try:
        table = toml.loads(toml.read_text(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}", "it is a TOML file with [engine.slurm]") from error
    try:
        if set(table) <= {"engine"}:
            return _TABLES.validate_python(table.get("engine", {}))
    except ValidationError as error:
        raise UsageError(f"{path} has options that no engine takes", "write [engine.slurm] and options") from error
    raise UsageError(f"{path} has other tables than [engine.NAME]", "write [engine.slurm] and options")
