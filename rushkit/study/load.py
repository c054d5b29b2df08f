"""Read a study's file and check what can be seen in it alone: keys, values, labels, seeds, published rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rushkit import registries
from rushkit.errors import RushkitError, UsageError, did_you_mean, shorten
from rushkit.paths import reason
from rushkit.recipe import toml
from rushkit.recipe.origins import Origins, at, origins_of
from rushkit.recipe.problems import FileError, explain
from rushkit.recipe.sections import Section
from rushkit.results.published import published_rows
from rushkit.study.find import find_study
from rushkit.study.job import STAGES, Stage
from rushkit.study.schema import ORIGINS, RowAsked, StudyAsked
from rushkit.study.stages import ASKED, StageAsked

_Model = TypeVar("_Model", bound=Section)

HINT = "docs/studies.md says what each key may be; `rushkit study list` shows studies that work"


@dataclass
class Problems:
    """What is wrong with a study, gathered so that all of it is said at once.

    Attributes:
        origins: Dotted key -> file and line.
        lines: What was found.
    """

    origins: Origins
    lines: list[str] = field(default_factory=list)

    def add(self, key: str, what: str) -> None:
        """Note what is wrong at a dotted key."""
        self._add(at(key, what, self.origins))

    def add_error(self, key: str, error: RushkitError) -> None:
        """Note an error that a recipe or a run raised; its own places stay."""
        if isinstance(error, FileError):
            for line in error.lines:
                self._add(at(key, line, self.origins) if line.startswith("--") else line)
        else:
            self.add(key, f"{error.message} ({error.hint})" if error.hint else error.message)

    def check(self) -> None:
        """Raise UsageError if anything was found."""
        if self.lines:
            raise FileError("study", self.lines, HINT)

    def _add(self, line: str) -> None:
        # A mistake in a recipe comes once for each stage that reads it.
        if line not in self.lines:
            self.lines.append(line)


@dataclass(frozen=True)
class Row:
    """A row with its stages.

    Attributes:
        key: Its dotted key in the file, such as ``"row.0"``.
        asked: Its table.
        seeds: Its seeds.
        stages: Its stages, by label, in their order.
        keys: The dotted key of each of them.
    """

    key: str
    asked: RowAsked
    seeds: tuple[int, ...]
    stages: Mapping[str, StageAsked]
    keys: Mapping[str, str]


@dataclass(frozen=True)
class Study:
    """A study as its file has it.

    Attributes:
        name: The file's name.
        path: The file.
        asked: Its tables.
        rows: Its rows with their stages, by label.
        origins: Dotted key -> file and line.
    """

    name: str
    path: Path
    asked: StudyAsked
    rows: Mapping[str, Row]
    origins: Origins


def load_study(name: str) -> Study:
    """Load a study by name or path.

    Raises:
        UsageError: no such study, a file that cannot be read, or every error in it at once, each with file and line.
    """
    path = find_study(name)
    return parse_study(_text(path), path)


def about(name: str) -> str:
    """Return the first line of the comment of a study, or why it cannot be read."""
    try:
        first = _text(find_study(name)).partition("\n")[0]
    except RushkitError as error:
        return f"cannot be used: {error.message}"
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _text(path: Path) -> str:
    """Return the text of a study's file. Raises UsageError if it cannot be read."""
    try:
        return toml.read_text(path)
    except (OSError, ValueError) as error:
        hint = f"it must be a text file in UTF-8, of at most {toml.MAX_CHARACTERS} characters"
        raise UsageError(f"the study {path} cannot be read: {reason(error)}", hint) from error


def parse_study(text: str, path: Path) -> Study:
    """Check the TOML text of a study.

    Raises:
        UsageError: not TOML, or every error in it at once, each with file and line.
    """
    try:
        table = toml.loads(text)
    except ValueError as error:
        raise UsageError(f"{path} is not a valid study: {error}", "`rushkit study list` shows some") from None
    problems = Problems(origins_of(text, str(path)))
    asked = _checked(StudyAsked, table, "", problems)
    # What is wrong with stages and labels is said even if another key is wrong as well.
    rows = _rows(table, asked, problems)
    problems.check()
    assert asked is not None
    return Study(path.stem, path, asked, rows, problems.origins)


def _checked(model: type[_Model], table: object, key: str, problems: Problems) -> _Model | None:
    """Return a table as its model; None after noting what is wrong with it."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            place = ".".join(filter(None, [key, *map(str, item["loc"])]))
            problems.add(place, _what(item, model))
        return None


def _what(error: ErrorDetails, model: type[Section]) -> str:
    """Say what is wrong, from one of pydantic's errors."""
    if error["type"] != "extra_forbidden":
        return explain(error)
    inside = RowAsked if error["loc"][0] == "row" else model
    near = did_you_mean(str(error["loc"][-1]), inside.key_names(), most=1, cutoff=0.5)
    return f"unknown key; {near}" if near else f"unknown key; there are: {', '.join(inside.key_names())}"


def _rows(table: toml.Table, study: StudyAsked | None, problems: Problems) -> dict[str, Row]:
    """Return the rows by label; what cannot be read of them is noted."""
    shared = _stages(table.get("stage"), "stage", problems)
    rows: dict[str, Row] = {}
    labels: list[object] = []
    for index, row_table in enumerate(toml.tables_in(table.get("row"))):
        key, label = f"row.{index}", row_table.get("label")
        if isinstance(label, str) and label in labels:
            problems.add(f"{key}.label", f"two rows are called {shorten(label)!r}")
        labels.append(label)
        own = None
        if "stage" in row_table:
            own = _stages(row_table["stage"], f"{key}.stage", problems)
        if study is None:
            continue
        asked = study.row[index]
        stages, keys = shared if own is None else own
        if asked.only_published:
            stages, keys = {}, {}
        rows[asked.label] = Row(key, asked, tuple(asked.seeds or study.seeds), stages, keys)
        _check_row(rows[asked.label], own is not None, problems)
    if study is not None:
        _check_engines(study.engine, problems)
    return rows


def _stages(tables: object, key: str, problems: Problems) -> tuple[dict[str, StageAsked], dict[str, str]]:
    """Return stages by label, and their dotted keys; what is wrong with them is noted."""
    stages: dict[str, StageAsked] = {}
    keys: dict[str, str] = {}
    names: Counter[str] = Counter()
    for index, table in enumerate(tables if isinstance(tables, list) else []):
        place = f"{key}.{index}"
        command = table.get("do") if isinstance(table, dict) else None
        if command not in STAGES:
            problems.add(f"{place}.do" if command is not None else place, _no_command(command))
            continue
        stage = _checked(ASKED[_command(command)], table, place, problems)
        name = str(table.get("label", command)) if stage is None else stage.name
        names[name] += 1
        if names[name] == 2:
            problems.add(place, f"two stages are called {shorten(name)!r}: give one of them another `label`")
        if stage is not None:
            stages[name], keys[name] = stage, place
    return stages, keys


def _command(name: object) -> Stage:
    return next(stage for stage in STAGES if stage == name)


def _no_command(name: object) -> str:
    if name is None:
        return f"`do` is missing: the command of the stage, one of {', '.join(STAGES)}"
    near = did_you_mean(str(name), STAGES, most=1) or f"there are: {', '.join(STAGES)}"
    return f"no such command {shorten(repr(name))}; {near}"


def _check_row(row: Row, has_stages: bool, problems: Problems) -> None:
    """Note a row that starts from nothing or from several things, has nothing to do, or unknown published rows."""
    asked = row.asked
    origins = [name for name in ORIGINS if getattr(asked, name) is not None]
    if len(origins) > 1:
        problems.add(f"{row.key}.{origins[1]}", f"the row has a {origins[0]} already: leave one of them out")
    if not origins and not asked.published:
        problems.add(row.key, f"the row starts from nothing: it needs {', '.join(ORIGINS)} or published")
    if asked.only_published and has_stages:
        problems.add(f"{row.key}.stage", f"the row has stages, and nothing to start from: {', '.join(ORIGINS)}")
    known = [published.key for published in published_rows()]
    for index, key in enumerate(asked.published):
        if key not in known:
            near = did_you_mean(key, known, most=1)
            problems.add(f"{row.key}.published", f"no published row {shorten(key)!r} (number {index + 1}); {near}")


def _check_engines(engines: Iterable[str], problems: Problems) -> None:
    """Note engines that there are none of, or that are not installed."""
    for name in engines:
        try:
            registries.engines.entry(name)
        except RushkitError as error:
            problems.add_error(f"engine.{name}", error)


def cells(study: Study) -> Iterator[tuple[Row, str, int]]:
    """Yield row, stage label and seed of every cell, in the order of rows, seeds and stages."""
    for row in study.rows.values():
        for seed in row.seeds:
            for label in row.stages:
                yield row, label, seed
