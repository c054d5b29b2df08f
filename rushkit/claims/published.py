"""A published model: a folder with weights, recipe, claims, artifacts and counts, which anybody can open and verify.

    README.md                                  the model card, for people; nothing is read from it
    recipe.toml                                the resolved recipe of the training
    model.safetensors                          the classifier, a checkpoint
    claims.json                                what was measured of it, and the hash of every other file
    artifacts/01.rushkit                       the saved images of an attack
    certifications/01/counts/certify.jsonl     the counts of a certification

The names are fixed: none is taken from anybody's text and joined to a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from rushkit.claims.canonical import decode, encode
from rushkit.claims.chain import weights_hash
from rushkit.claims.record import SCHEMA, Claims
from rushkit.errors import DataError, RushkitError, shorten, showable
from rushkit.files import plain_json
from rushkit.paths import open_file, read_file, reason
from rushkit.recipe.load import read_recipe
from rushkit.recipe.schema import Recipe
from rushkit.results.records import first_problem
from rushkit.run.checkpoint import Checkpoint, load_checkpoint
from rushkit.run.names import CLAIMS_FILE, PUBLISHED_WEIGHTS, RECIPE_FILE

CARD = "README.md"
# The files that claims.json may name, besides weights and recipe.
_ARTIFACT = re.compile(r"artifacts/\d{2,4}\.rushkit")
_COUNTS = re.compile(r"certifications/\d{2,4}/counts/certify\.jsonl")
# The outcomes of a hundred measurements of a million images take less.
_MOST_BYTES = 1 << 28
_AGAIN = "get the whole folder again from its author"
_PIECE = 1 << 24


@dataclass(frozen=True)
class Published:
    """A published folder whose files are those that its claims name.

    Attributes:
        folder: The folder.
        claims: The claims.
        recipe: The recipe of the training.
        checkpoint: The classifier.
    """

    folder: Path
    claims: Claims
    recipe: Recipe
    checkpoint: Checkpoint


def write_claims(folder: Path, claims: Claims) -> bytes:
    """Return the text of claims.json for a folder whose other files are written: canonical JSON.

    Args:
        folder: The folder, whose files are hashed.
        claims: The claims; their ``files`` are replaced by those of the folder.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: file_hash(folder / name) for name in names if name not in (CARD, CLAIMS_FILE)}
    table = claims.with_changes(files=files).to_table()
    return encode(plain_json(table, CLAIMS_FILE))


def read_published(folder: Path) -> Published:
    """Read a published model of anybody's: nothing of it is executed, unpickled, or trusted for a name or a size.

    Raises:
        DataError: it is no published model, one of another schema, or its files are not those that it names.
        CheckpointError: the weights are damaged.
        UsageError: the recipe names what is not here.
    """
    claims = _claims(folder)
    for name, wanted in claims.files.items():
        path = folder / name
        _check_regular(folder, name)
        if file_hash(path) != wanted:
            raise DataError(f"{path} is not the file that {CLAIMS_FILE} names: it was altered", _AGAIN)
    try:
        text = read_file(folder / RECIPE_FILE, _MOST_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / RECIPE_FILE} cannot be read", _AGAIN) from error
    recipe = read_recipe(text, str(folder / RECIPE_FILE))
    checkpoint = load_checkpoint(folder / PUBLISHED_WEIGHTS)
    if checkpoint.hash != claims.model.checkpoint or weights_hash(checkpoint.tensors) != claims.model.weights:
        raise DataError(f"{folder / PUBLISHED_WEIGHTS} holds other weights than {CLAIMS_FILE} names", _AGAIN)
    return Published(folder, claims, recipe, checkpoint)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file. Raises DataError if it cannot be read."""
    total = hashlib.sha256()
    try:
        with open_file(path) as file:
            while piece := file.read(_PIECE):
                total.update(piece)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", _AGAIN) from error
    return total.hexdigest()


def _claims(folder: Path) -> Claims:
    path = folder / CLAIMS_FILE
    _check_regular(folder, CLAIMS_FILE)
    try:
        table = decode(read_file(path, _MOST_BYTES))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", _AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {shorten(showable(str(error)))}", _AGAIN) from error
    schema = table.get("schema") if isinstance(table, dict) else None
    if isinstance(schema, int) and schema != SCHEMA:
        raise DataError(f"{path} has schema {str(schema)[:20]}, and this rushkit reads {SCHEMA}", "upgrade rushkit")
    try:
        claims = Claims.model_validate(table)
        _check_names(claims)
        for measured in claims.measured:
            if (stage := measured.record().stage) != measured.stage:
                raise ValueError(f"results of {stage} are called those of {measured.stage}")
    except ValidationError as error:
        raise DataError(f"{path} is no claim of rushkit: {shorten(first_problem(error))}", _AGAIN) from error
    except (ValueError, RushkitError) as error:
        raise DataError(f"{path} does not add up: {shorten(showable(str(error)))}", _AGAIN) from error
    return claims


def _check_names(claims: Claims) -> None:
    """Raise ValueError for a name that no published folder has, or one that is named and not there."""
    if claims.name != showable(claims.name) or "\n" in claims.name:
        raise ValueError("its name has control characters")
    needed = {RECIPE_FILE, PUBLISHED_WEIGHTS}
    for measured in claims.measured:
        counts = {f"{measured.counts}/counts/certify.jsonl"} if measured.counts else set()
        if any(not _COUNTS.fullmatch(name) for name in counts):
            raise ValueError("it names counts elsewhere")
        if any(not _ARTIFACT.fullmatch(name) for name in measured.artifacts):
            raise ValueError("it names an artifact elsewhere")
        needed |= counts | set(measured.artifacts)
    if needed != set(claims.files):
        odd = sorted(needed ^ set(claims.files))[0]
        raise ValueError(f"the file {shorten(showable(odd), 40)!r} is named in one place and not in another")


def _check_regular(folder: Path, name: str) -> None:
    """Raise DataError unless a file of the folder is there, and neither it nor a folder above it is a link."""
    path = folder
    try:
        for part in name.split("/"):
            path = path / part
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                raise DataError(f"{path} is a link, and a published model has none", _AGAIN)
        if not stat.S_ISREG(mode):
            raise DataError(f"{path} is no file", _AGAIN)
    except OSError as error:
        missing = f"{folder} is no published model: it has no {name}"
        raise DataError(missing if name == CLAIMS_FILE else f"{path} is missing", _AGAIN) from error
