"""The claims of a finished attack: its model, its recipe, and the artifact of each row with saved images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rushkit.claims.artifact import write_artifact
from rushkit.claims.evidence import checkpoint_of_hash
from rushkit.claims.pack import pack
from rushkit.errors import CheckpointError, UsageError, first_few, shell_line
from rushkit.recipe.load import derive_recipe, read_recipe
from rushkit.recipe.overrides import Changes
from rushkit.recipe.schema import Recipe
from rushkit.results.attacks import AttackRow, Attacks
from rushkit.results.records import read
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.info import RunInfo, read_run_text
from rushkit.run.names import RECIPE_FILE

_CHOOSE = "for example --protocol strict --samples 64: an artifact holds the images of one attack"


def saved_rows(run: RunInfo) -> list[AttackRow]:
    """Return the rows of a run whose images were saved.

    Raises:
        UsageError: the run has no results, is no attack, or saved no images.
        DataError: its results.json is damaged, or does not add up.
    """
    results = read(run.path)
    if not isinstance(results, Attacks):
        raise UsageError(
            f"{run.path} is a run of {run.verb or 'no command'} ({run.status}), and has no finished attack to verify",
            "name a run of rushkit attack --save, or an artifact",
        )
    rows = [row for row in results.attacks if row.saved]
    if not rows:
        again = shell_line("rushkit", "attack", "--from", results.source, "--save")
        raise UsageError(
            f"{run.path} saved no images: that its results.json adds up is all that could be checked of its figures",
            f"attack again and keep them, with its other options: {again}",
        )
    return rows


def recipe_of_run(run: RunInfo, changes: Changes = ()) -> Recipe:
    """Return the recipe of a run on this machine. Raises UsageError if it cannot be read."""
    path = run.path / RECIPE_FILE
    return derive_recipe(read_recipe(read_run_text(path), str(path)), changes)


def model_of_run(run: RunInfo, root: str | Path) -> Checkpoint:
    """Return the checkpoint that a run measured, wherever it lies now: it is known by its hash.

    Args:
        run: The run.
        root: The folder of runs.

    Raises:
        UsageError: the model is code of the user's.
        CheckpointError: it is gone.
    """
    if run.about.model is not None:
        raise UsageError(
            f"{run.path} measured {run.about.model.in_words()}, which only code that this command names can be",
            "name it as then: --model FILE.py:NAME and its options, or --from RUN --front FILE.py:NAME",
        )
    wanted = run.about.hashes.get("parent", "")
    checkpoint = checkpoint_of_hash(wanted, (root, run.path.parent), run.about.parent)
    if checkpoint is None:
        raise CheckpointError(
            f"the checkpoint that {run.path} measured, with the hash {wanted[:12]}, is gone", "--from names it"
        )
    return checkpoint


def row_to_pack(labels: Sequence[str]) -> int:
    """Return which of some attacks an artifact is made of: the only one, or the only one under strict.

    Args:
        labels: The protocol of each attack.

    Raises:
        UsageError: several would do.
    """
    strict = [number for number, label in enumerate(labels) if label == "strict"]
    fitting = strict or list(range(len(labels)))
    if len(fitting) != 1:
        raise UsageError(
            f"{len(fitting)} attacks could be packed: {first_few([labels[number] for number in fitting], 5)}", _CHOOSE
        )
    return fitting[0]


def check_artifact_path(path: Path) -> None:
    """Raise UsageError unless an artifact can be written to a path: nothing is overwritten."""
    try:
        if path.exists() or not path.absolute().parent.is_dir():
            why = "is there already" if path.exists() else "lies in a folder that is not there"
            raise UsageError(f"{path} {why}", "name a new file for --artifact")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "name another file for --artifact") from error


def pack_rows(run: RunInfo, recipe: Recipe, model: Checkpoint, path: Path, with_weights: bool) -> None:
    """Write the artifact of a finished run with saved images; the arguments are those of ``pack_attack``."""
    rows = saved_rows(run)
    row = rows[row_to_pack([row.protocol for row in rows])]
    write_artifact(path, pack(row, recipe, model, run.path, with_weights))


def pack_attack(results: Attacks, recipe: Recipe, model: Checkpoint, path: Path, with_weights: bool) -> None:
    """Write the artifact of an attack that has just finished; see ``pack.pack``.

    Raises:
        UsageError: several of its rows could be packed, or none.
    """
    rows = [row for row in results.attacks if row.saved]
    row = rows[row_to_pack([row.protocol for row in rows])]
    write_artifact(path, pack(row, recipe, model, Path(results.run), with_weights))
