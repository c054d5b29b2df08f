"""``rushkit verify``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_runs
from rushkit.cli.given import Measured, data_options
from rushkit.cli.options import NAMES_A_RUN, Changes, Computing, Output
from rushkit.cli.packing import Packing
from rushkit.cli.source import check_flags, open_source, runs_root
from rushkit.cli.verb import verb
from rushkit.errors import UsageError, shorten
from rushkit.paths import expand, is_file

if TYPE_CHECKING:
    from rushkit.recipe.schema import Recipe
    from rushkit.recipe.toml import Toml
    from rushkit.results.verification import Verification
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.speaker import Speaker

NAME = "verify"
EXAMPLE = "Example: rushkit verify claim.rushkit"


@verb
def command(
    *,
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN | ARTIFACT",
            help=f"A run of rushkit attack --save or certify ({NAMES_A_RUN}), or an artifact.",
            autocompletion=complete_runs,
        ),
    ],
    measured: Measured,
    packing: Packing,
    changes: Changes = None,
    computing: Computing,
    output: Output,
) -> None:
    """Score saved adversarial images, or draw for certificates, again: is the claim true? Exit code 1 if not shown."""
    _check(measured, changes)
    packing.check()
    changes = dataclasses.replace(computing, seed=None).changes(changes)
    path = expand(target)
    if is_file(path):
        if packing.artifact is not None:
            raise UsageError(f"{shorten(target)} is an artifact already", "leave --artifact out")
        results = _verify_file(path, measured, changes, computing.seed, output.speaker())
    else:
        results = _verify_run(target, measured, packing, changes, computing.seed, output.speaker())
    from rushkit.report.terminal.tables import record_table

    output.result(results, record_table(results))
    output.speaker().say(f"run: {results.run}")
    if results.verdict != "consistent":
        # The verdict is the explanation.
        raise typer.Exit(1)


def _check(measured: Measured, changes: list[str] | None) -> None:
    """Check the command line: a claim keeps its recipe, so that --set changes the machine alone."""
    from rushkit.recipe.overrides import parse_changes, said_as

    dataclasses.replace(measured, data=None).check()
    check_flags(changes)
    for change in changes or []:
        if not parse_changes([change])[0][0].startswith("system."):
            raise UsageError(
                f"a claim is verified by the recipe that it was made with; it cannot take {said_as(change)}",
                "--set changes keys of system alone",
            )


def _verify_file(
    path: Path, measured: Measured, changes: list[str], seed: int | None, speaker: Speaker
) -> Verification:
    from rushkit.claims.artifact import read_artifact
    from rushkit.claims.evidence import Missing, recipe_here
    from rushkit.claims.targets import fresh_seed, verification_of, verify_artifact
    from rushkit.setup.start import start_run

    artifact = read_artifact(path)
    data = None if measured.data is None else data_options(measured.data)
    recipe, seed = recipe_here(artifact, path, changes, data), fresh_seed(seed)
    named = _named_model(measured, recipe, changes, speaker)
    checked, model = verify_artifact(artifact, recipe, named, seed)
    parent = None if isinstance(model, Missing) else model.checkpoint
    with start_run(NAME, recipe, speaker, parent) as run:
        return run.write_results(verification_of(str(path), recipe, seed, [checked]))


def _verify_run(
    target: str, measured: Measured, packing: Packing, changes: list[str], seed: int | None, speaker: Speaker
) -> Verification:
    from rushkit.claims.of_run import model_of_run, pack_rows, recipe_of_run, saved_rows
    from rushkit.claims.pack import check_weights
    from rushkit.claims.targets import certified_model, verify_run
    from rushkit.run.named import Wish, run_named
    from rushkit.setup.start import start_run

    root = runs_root(changes)
    try:
        info, note = run_named(target, root, (Wish(("attack", "certify")),))
    except UsageError as error:
        hints = filter(None, (error.hint, "an artifact is a file, and none lies there"))
        raise UsageError(error.message, "; ".join(hints)) from error
    if note:
        speaker.say(note)
    certifies = info.stage == "certify"
    if not certifies:
        # Before a model is looked for, so that what is no attack is called so.
        saved_rows(info)
    recipe = recipe_of_run(info, changes)
    if measured.data is not None:
        raise UsageError("--data is that of an artifact; a run knows its own", "--set system.data_dir=FOLDER")
    if certifies and packing.artifact is not None:
        raise UsageError(f"{info.path} is a certification, and artifacts hold attacked images", "leave --artifact out")
    model = _named_model(measured, recipe, changes, speaker)
    model = model or (certified_model(info, root) if certifies else model_of_run(info, root))
    if model is not None:
        check_weights(model, packing.with_weights)
    results = verify_run(info, model, changes, seed)
    with start_run(NAME, recipe, speaker, model) as run:
        results = run.write_results(results)
        if packing.artifact is not None and model is not None:
            if results.verdict != "consistent":
                speaker.warn(f"{packing.path} is not written: the claim is {results.verdict}")
            else:
                pack_rows(info, recipe, model, packing.path, packing.with_weights)
        return results


def _named_model(measured: Measured, recipe: Recipe, changes: list[str], speaker: Speaker) -> Checkpoint | None:
    """Return the model that the user names; None if there is none.

    Args:
        measured: The flags.
        recipe: That of the claim, whose section data says how large images are, and which classes there are.
        changes: As for ``--set``.
        speaker: Says what is measured.
    """
    from rushkit.recipe.load import build_recipe, derive_recipe
    from rushkit.setup.fronted import fronted, with_fronts
    from rushkit.setup.given import given_model

    if measured.model is not None:
        code = measured.name()
        section: dict[str, Toml] = {"code": str(code), "fronts": [*measured.name_fronts()]}
        base = build_recipe({"name": recipe.name, "data": recipe.data.model_dump(), "model": section})
        return given_model(derive_recipe(base, changes, flags=measured.keys()))
    if measured.source is None:
        if measured.fronts:
            raise UsageError("--front without --from or --model", "name what it stands before")
        return None
    checkpoint = open_source(measured.source, changes, "finetune", speaker)
    return fronted(with_fronts(recipe, measured.name_fronts()), checkpoint) if measured.fronts else checkpoint
