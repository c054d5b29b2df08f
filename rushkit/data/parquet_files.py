"""Read Parquet files with a column of encoded images and one of labels, through pyarrow, which is imported here alone.

A column of images holds encoded files, plain or in a struct ``{bytes, path}``. The hub's files say in their metadata
(``huggingface``) what a column is, and how the classes are called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rushkit.data.named_splits import split_word
from rushkit.data.scan import is_hidden
from rushkit.errors import DataError, UsageError, first_few
from rushkit.paths import is_file, is_folder, open_file, reason, regular_stat

# Rows that are read at once: so many encoded images are in memory.
ROWS = 64
MOST_FILES = 100_000
MOST_METADATA = 2**24
_IMAGE_NAMES = ("image", "images", "img", "picture", "pixels")
_LABEL_NAMES = ("label", "labels", "target", "targets", "class", "y", "fine_label")
_NAMES_THEM = """--set data.columns='["IMAGE", "LABEL"]' names the two columns"""
NO_FILE = "--set data.path=... names a Parquet file, or a folder of some"


@dataclass(frozen=True)
class Columns:
    """The columns that are read.

    Attributes:
        image: The column of encoded images.
        label: The column of labels; empty if there is none.
        names: The names of the classes in the metadata; empty if it has none.
    """

    image: str
    label: str
    names: tuple[str, ...]

    def describe(self) -> str:
        """Say which columns these are."""
        return f"images in {self.image!r}, " + (f"labels in {self.label!r}" if self.label else "no labels")


def shards(path: Path) -> dict[str, tuple[Path, ...]]:
    """Return the Parquet files of each split, in the order of their names; under "" those that tell of no split.

    A split is told by the name of a file, such as ``train-00000-of-00002.parquet``, or else of a folder around it.

    Raises:
        DataError: there are none, or too many.
    """
    if is_file(path):
        return {"": (path,)}
    if not is_folder(path):
        raise DataError(f"there is no file or folder {path}", NO_FILE)
    files = [file for file in path.rglob("*.parquet") if not any(map(is_hidden, file.relative_to(path).parts))]
    if not 0 < len(files) <= MOST_FILES:
        raise DataError(f"{path} has {len(files) or 'no'} Parquet files", NO_FILE)
    found: dict[str, list[Path]] = {}
    for file in sorted(files):
        words = map(split_word, reversed(file.relative_to(path).parts))
        found.setdefault(next(filter(None, words), ""), []).append(file)
    if "" in found and len(found) > 1:
        raise DataError(
            f"{found[''][0]} is of no split, and other files are", "give it the name of one: train-0.parquet"
        )
    return {split: tuple(files) for split, files in found.items()}


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """Open a Parquet file, and turn what pyarrow raises of a damaged one, here or while it is read, into DataError.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet as reader
    except ImportError as error:
        raise UsageError(
            "Parquet files need pyarrow, which is not installed", "pip install 'rushkit[parquet]' brings it"
        ) from error
    try:
        with open_file(file) as handle, reader.ParquetFile(handle, memory_map=False, pre_buffer=False) as table:
            yield table
    except FileNotFoundError:
        raise DataError(f"there is no file {file}", NO_FILE) from None
    except (OSError, arrow.ArrowException, ValueError, OverflowError) as error:
        raise DataError(
            f"{file} is no Parquet file that can be read: {reason(error)}", "bring it again from where it is published"
        ) from error


def columns_of(file: Path, image: str, label: str) -> Columns:
    """Return the columns of images and labels: those that are asked for, or the only ones that can be meant.

    Raises:
        DataError: the file cannot be read, has no such column, or several.
    """
    with opened(file) as table:
        from pyarrow import types as kinds

        schema = table.schema_arrow
        features = _features(schema.metadata or {})
        everything = {field.name: field.type for field in schema}
        images = [name for name, kind in everything.items() if _holds_images(name, kind, features, kinds)]
        labels = [
            name
            for name, kind in everything.items()
            if features.get(name, {}).get("_type") == "ClassLabel"
            or (name.lower() in _LABEL_NAMES and (kinds.is_integer(kind) or _is_text(kind, kinds)))
        ]
    listed = first_few([f"{name} ({kind})" for name, kind in everything.items()], 12) or "none"
    picked = _picked(file, "image", image, images, list(everything), listed)
    if not picked:
        raise DataError(
            f"{file} has no column of encoded images; its columns are {listed}",
            f"such a column has bytes, or a struct with bytes; {_NAMES_THEM}",
        )
    labelled = _picked(file, "label", label, labels, list(everything), listed)
    if labelled and not (kinds.is_integer(everything[labelled]) or _is_text(everything[labelled], kinds)):
        raise DataError(
            f"{file}: the labels in {labelled!r} are {everything[labelled]}, not whole numbers or texts",
            _NAMES_THEM,
        )
    names = features.get(labelled, {}).get("names", [])
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return Columns(picked, labelled, tuple(names) if is_list else ())


def count_rows(file: Path, table: Any) -> int:
    """Return how many rows a file has. Raises DataError if it claims more than it can have."""
    rows = int(table.metadata.num_rows)
    if not 0 <= rows <= regular_stat(file).st_size:
        raise DataError(f"{file} claims to have {rows} rows, more than it has bytes", "the file is damaged")
    return rows


def label_values(file: Path, table: Any, column: str, rows: int) -> NDArray[Any]:
    """Return the labels of a file: int64 or texts (rows,). Raises DataError where a row has none."""
    values: list[Any] = []
    for batch in table.iter_batches(batch_size=2**16, columns=[column], use_threads=False):
        values += batch.column(0).to_pylist()
        if len(values) > rows:
            break
    if len(values) != rows:
        raise DataError(f"{file} has {len(values)} labels for {rows} rows", "the file is damaged")
    if None in values:
        raise DataError(f"{file}: row {values.index(None)} has no label", f"leave such rows out; {_NAMES_THEM}")
    if values and isinstance(values[0], str):
        return np.array(values)
    return np.array(values, np.int64)


def encoded_rows(file: Path, table: Any, column: str, wanted: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the encoded image of each wanted row, sorted; row groups without any are not read."""
    first = 0
    for group in range(table.metadata.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        here = set(wanted[(wanted >= first) & (wanted < first + count)].tolist())
        if not here:
            first += count
            continue
        row = first
        for batch in table.iter_batches(batch_size=ROWS, row_groups=[group], columns=[column], use_threads=False):
            values = batch.column(0)
            # A struct {bytes, path}: of an image that is elsewhere there are no bytes.
            values = values.field("bytes") if values.type.num_fields else values
            for value in values:
                if row in here:
                    yield f"{file}: row {row}", value.as_py() or b""
                row += 1
        first += count
        if row < first:
            raise DataError(f"{file} has fewer rows than it claims", "the file is damaged")


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """Return what the hub's metadata say of each column; empty where they say nothing that can be read."""
    text = metadata.get(b"huggingface", b"")
    if not 0 < len(text) <= MOST_METADATA:
        return {}
    try:
        said = json.loads(text)["info"]["features"]
        return {name: about for name, about in said.items() if isinstance(name, str) and isinstance(about, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _is_text(kind: Any, kinds: Any) -> bool:
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind))


def _holds_images(name: str, kind: Any, features: Mapping[str, Mapping[str, Any]], kinds: Any) -> bool:
    """Return whether a column may hold encoded images: bytes, or a struct with bytes, of a telling name or kind."""
    if kinds.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_bytes(kind.field(index).type, kinds)
    return _is_bytes(kind, kinds) and (name.lower() in _IMAGE_NAMES or features.get(name, {}).get("_type") == "Image")


def _is_bytes(kind: Any, kinds: Any) -> bool:
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))


def _picked(file: Path, what: str, asked: str, fitting: list[str], everything: list[str], listed: str) -> str:
    """Return the column that is asked for, or the one that fits; "" where none does."""
    if asked:
        if asked not in everything:
            raise DataError(f"{file} has no column {asked!r}; its columns are {listed}", _NAMES_THEM)
        return asked
    if len(fitting) > 1:
        raise DataError(
            f"{file} has several columns that may be the {what}s: {first_few(fitting, 8)}",
            _NAMES_THEM,
        )
    return fitting[0] if fitting else ""
