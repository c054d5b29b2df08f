"""``rushkit attack``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from rushkit.cli.complete import complete_attacks
from rushkit.cli.options import (
    MOST,
    Changes,
    Debug,
    From,
    Json,
    Nproc,
    Output,
    Quiet,
    Resume,
    RunFolder,
    Samples,
    Verbose,
    check_resume,
    numbers,
    resolve_classifier,
    runs_root,
)
from rushkit.distributed.launch import launch

NAME = "attack"
EXAMPLE = "Example: rushkit attack --type pgd --eps 8/255 --protocol both --limit 100"


class Protocol(StrEnum):
    """Which protocols run."""

    PAPER = "paper"
    STRICT = "strict"
    BOTH = "both"


def command(
    context: typer.Context,
    source: From = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="NAME",
            help="An attack's name; else those of the recipe.",
            autocompletion=complete_attacks,
        ),
    ] = None,
    eps: Annotated[str | None, typer.Option("--eps", help="Radius in pixel units, such as 8/255.")] = None,
    norm: Annotated[str | None, typer.Option("--norm", help="linf, l2 or l1.")] = None,
    protocol: Annotated[
        Protocol, typer.Option("--protocol", help="paper reproduces the paper's figures; strict is what may be quoted.")
    ] = Protocol.BOTH,
    samples: Samples = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, max=MOST, help="Images to attack; 0 for all.")] = None,
    eot: Annotated[
        int | None, typer.Option("--eot", min=1, max=MOST, help="Draws of noise a gradient; else as the protocol says.")
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep the adversarial images in the run folder.")] = False,
    transfer_to: Annotated[
        str | None,
        typer.Option("--transfer-to", metavar="RUN", help="Ask another model about the same images; keeps them, too."),
    ] = None,
    changes: Changes = None,
    resume: Resume = False,
    run_folder: RunFolder = None,
    nproc: Nproc = 1,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Robust accuracy of a fine-tuned model: the paper's protocol, and beside it what is left under a strict one."""
    given = {"norm": norm, "eps": eps, "samples": numbers(samples, "--samples"), "eot": eot, "limit": limit}
    chosen = None if protocol == Protocol.BOTH else protocol
    flags = {"--from": source, "--type": kind, "--protocol": chosen} | {f"--{key}": each for key, each in given.items()}
    check_resume(resume, run_folder, flags)
    launch(nproc, context)
    from rushkit.cli.training import parent_checkpoint, reopen
    from rushkit.recipe.attack_flags import change_attacks
    from rushkit.recipe.components import check_components
    from rushkit.report.tables import attack_table
    from rushkit.robustness.attack import attack, plan_jobs
    from rushkit.robustness.deviations import ProtocolName
    from rushkit.robustness.failures import failed_error
    from rushkit.run.find import resolve_from
    from rushkit.setup.model import classes_of, image_size_of
    from rushkit.setup.start import start_run

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    root = runs_root(changes)
    other = None if transfer_to is None else resolve_from(transfer_to, root, "finetune").load(warn=speaker.warn)
    protocols: tuple[ProtocolName, ...] = ("paper", "strict")
    if resume:
        recipe, run = reopen("attack", None, run_folder, changes, root, speaker)
        checkpoint = parent_checkpoint(run)
        protocols = tuple(run.data.get("protocols", protocols))
        save = save or bool(run.data.get("save"))
        if other is None and run.data.get("transfer_to"):
            other = parent_checkpoint(run, "transfer_to")
    else:
        recipe, checkpoint = resolve_classifier(source, changes, speaker)
        recipe = change_attacks(recipe, kind, changes=changes or [], **given)
        if chosen:
            protocols = ("paper",) if chosen == Protocol.PAPER else ("strict",)
        # Before there is a folder: an attack that cannot be made leaves none.
        check_components(recipe)
        plan_jobs(recipe, classes_of(checkpoint), protocols, image_size_of(checkpoint))
        asked: dict[str, Any] = {
            "protocols": list(protocols),
            "save": save,
            "transfer_to": str(other.path) if other else None,
        }
        run = start_run("attack", recipe, speaker, parent=str(checkpoint.path), asked=asked)
    with run:
        results = attack(recipe, checkpoint, run, protocols, save, other)
    output.result(results, attack_table(results))
    speaker.say(f"run: {run.path}")
    if failed := results["failed"]:
        raise failed_error(failed, len(failed) + len(results["attacks"]))
