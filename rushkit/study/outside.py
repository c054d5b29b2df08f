"""Models from outside a study: the run or the checkpoint that a row names."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from rushkit.errors import CheckpointError, UsageError
from rushkit.named_code import ALSO, FRONT, IDENTITY, SURROGATE, lying, read_code
from rushkit.paths import read_file, reason
from rushkit.recipe.load import build_recipe
from rushkit.recipe.model_section import Model
from rushkit.recipe.toml import Table
from rushkit.study.derive import Made
from rushkit.study.job import canonical, code_of_attacks
from rushkit.study.stages import MODELS

# What the identity of somebody's classifier begins with.
CODE = "code:"


@dataclass(frozen=True)
class Outside:
    """A model that no job of the study makes.

    Attributes:
        made: What its checkpoint says.
        identity: ``sha256:`` and the hash of the checkpoint's tensors and metadata; of code as ``code_identity``.
        path: The checkpoint's file; of code where it lies, as ``--model`` takes it.
    """

    made: Made
    identity: str
    path: Path


def open_code(label: str, model: Model, folder: Path, changes: Table) -> Outside:
    """Return the classifier of a row that is somebody's code, which is not run: its files are hashed.

    Args:
        label: The row's.
        model: Its table ``model``.
        folder: That of the study, where its paths start, or else in the working folder.
        changes: The row's changes of a recipe by dotted key, which name the data.

    Raises:
        UsageError: a file is not there, or nothing names the data.
    """
    data = changes.get("data.name")
    if not isinstance(data, str):
        raise UsageError(
            "a row with a model says what it is measured on", 'for example set = { "data.name" = "cifar10" }'
        )
    code = read_code(model.code, folder)
    weights = model.weights and str(lying(model.weights, folder).absolute())
    fronts = [str(read_code(front, folder, FRONT)) for front in model.fronts]
    model = model.model_copy(update={"code": str(code), "weights": weights, "fronts": fronts})
    recipe = build_recipe(
        {
            "name": re.sub(r"[^A-Za-z0-9_-]+", "-", label).strip("-").lower() or "model",
            "data": {"name": data},
            "noise": {"name": "none"},
            "model": model.model_dump(),
        }
    )
    return Outside(Made("finetune", recipe), code_identity(model), Path(str(code)))


def code_identity(model: Model) -> str:
    """Return ``code:`` and the hash of a classifier's files and settings, known without running it."""
    codes = [read_code(model.code), *(read_code(front, flag=FRONT) for front in model.fronts)]
    files: list[JsonValue] = [[code.key, _hash(code.place if code.is_file else "")] for code in codes]
    about = model.model_dump(exclude={"code", "fronts", "weights"})
    return f"{CODE}{hashlib.sha256(canonical([*files, _hash(model.weights), about]).encode()).hexdigest()}"


def attacks_at(attacks: JsonValue, folder: Path) -> JsonValue:
    """Return the tables of a recipe's attacks with the code that they name where it lies, seen from a folder.

    Raises:
        UsageError: a file is not there.
    """
    if not isinstance(attacks, list):
        return attacks
    return [_attack_at(table, folder) if isinstance(table, dict) else table for table in attacks]


def _attack_at(table: dict[str, JsonValue], folder: Path) -> dict[str, JsonValue]:
    surrogate, also = table.get("surrogate"), table.get("also")
    placed = dict(table)
    if surrogate and surrogate != IDENTITY:
        placed["surrogate"] = str(read_code(str(surrogate), folder, SURROGATE))
    if isinstance(also, list) and also:
        placed["also"] = [str(read_code(str(said), folder, ALSO)) for said in also]
    return placed


def attack_identity(attacks: JsonValue) -> str:
    """Return ``code:`` and the hash of the files that tables of attacks name; "" if they name none."""
    codes = [read_code(said, flag=flag) for flag, said in code_of_attacks(attacks)]
    files: list[JsonValue] = [[code.key, _hash(code.place if code.is_file else "")] for code in codes]
    return f"{CODE}{hashlib.sha256(canonical(files).encode()).hexdigest()}" if files else ""


def _hash(path: str) -> str:
    """Return the SHA-256 of a file; "" for no file. Raises UsageError if it cannot be read."""
    try:
        return hashlib.sha256(read_file(path)).hexdigest() if path else ""
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {reason(error)}", "a relative path starts in the study's folder"
        ) from error


def open_outside(named: str, runs: Path) -> Outside:
    """Open the checkpoint that a row names. Imports torch.

    Args:
        named: A run's id, the end of it, a folder, ``shipped/NAME`` or a checkpoint's file.
        runs: The folder of runs.

    Raises:
        UsageError: nothing of this name.
        CheckpointError: no checkpoint, a damaged one, or one that no training stage wrote.
    """
    from rushkit.run.source import resolve_from
    from rushkit.setup.model import image_size_of, recipe_of

    checkpoint = resolve_from(named, runs, MODELS).load()
    stage = next((stage for stage in MODELS if stage == checkpoint.meta.get("stage")), None)
    if stage is None:
        raise CheckpointError(f"{checkpoint.path} was written by no training stage", "name another one")
    made = Made(stage, recipe_of(checkpoint), image_size_of(checkpoint))
    return Outside(made, f"sha256:{checkpoint.hash}", checkpoint.path)
