"""``rushkit audit``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli import self_test
from rushkit.cli.given import Measured
from rushkit.cli.options import MOST, Changes, Computing, Output, ReplacedRanks, Resuming, Skip, Split
from rushkit.cli.source import attack_flags, check_flags, resolve_classifier, runs_root
from rushkit.cli.verb import verb
from rushkit.distributed.notes import leave_note
from rushkit.place import current_place

if TYPE_CHECKING:
    from rushkit.recipe.schema import Recipe
    from rushkit.run.asked import AuditAsked
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.folder import Run

NAME = "audit"
EXAMPLE = "Example: rushkit audit --from cifar10 --limit 64 --eps 8/255"


def _share(claim: float | None) -> float | None:
    """Refuse a claim that is no share, NaN included, as the command line is read."""
    if claim is not None and not 0 <= claim <= 1:
        raise typer.BadParameter(f"{claim:g} is no share in [0, 1], such as 0.65.")
    return claim


@dataclass(frozen=True)
class Options:
    """How much is measured, and in which ball."""

    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=0, max=MOST, help="Images to look at; 0: all. Default: 64."),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", metavar="M", min=1, max=MOST, help="Draws of noise a vote; default: the recipe's largest."
        ),
    ] = None
    eps: Annotated[str | None, typer.Option("--eps", help="Radius in pixel units; default: that of the recipe.")] = None
    norm: Annotated[str | None, typer.Option("--norm", help="linf, l2 or l1; default: that of the recipe.")] = None
    skip: Skip = None
    split: Split = None
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, max=MOST, help="Gradient steps; default: 20.")
    ] = None
    eot: Annotated[
        int | None, typer.Option("--eot", metavar="M", min=1, max=MOST, help="Draws of noise a gradient; default: 10.")
    ] = None
    queries: Annotated[
        int | None, typer.Option("--queries", metavar="N", min=1, max=MOST, help="Queries of Square; default: 200.")
    ] = None
    claim: Annotated[
        float | None,
        typer.Option(
            "--claim",
            metavar="A",
            callback=_share,
            help="A claimed accuracy under attack, in [0, 1]: do the audit's own attacks refute it?",
        ),
    ] = None

    def keys(self) -> dict[str, str | int | None]:
        """Return the keys of the recipe's first attack that the flags set: the ball, and which images."""
        return {"norm": self.norm and self.norm.lower(), "eps": self.eps, "skip": self.skip, "split": self.split}

    def asked(self) -> AuditAsked:
        """Return what run.json keeps of them."""
        from rushkit.run.asked import AuditAsked

        return AuditAsked(**{name: value for name, value in vars(self).items() if name in AuditAsked.model_fields})

    def flags(self) -> dict[str, object]:
        """Return the flags that only a new run takes."""
        return {f"--{name}": value for name, value in vars(self).items()}


@verb
def command(
    *,
    measured: Measured,
    options: Options,
    testing: self_test.SelfTesting,
    changes: Changes = None,
    resuming: Resuming,
    computing: Computing,
    ranks: ReplacedRanks,
    output: Output,
) -> None:
    """Is the robustness real? Checks with codes, each with its figures; exit code 1 if one fails."""
    changes = computing.changes(changes)
    flags = {**options.flags(), **measured.flags()}
    measured.check(resuming.resume)
    resuming.check({**flags, "--case": testing.cases or None})
    testing.check(flags, changes)
    if resuming.resume and testing.self_test:
        self_test.check_resumed(resuming.run_folder, changes)
    elif not resuming.resume:
        check_flags(changes, attack_flags(**options.keys()))
    resuming, changes = ranks.go_on(resuming, changes)
    speaker = output.speaker()
    if resuming.resume:
        from rushkit.setup.resume import Stopped, reopen

        # The runs of self-tests are called so.
        recipe_name = self_test.NAME if testing.self_test else None
        stopped = Stopped(NAME, runs_root(changes), resuming.run_folder, recipe_name)
        measured.name()
        recipe, run = reopen(stopped, changes, speaker)
        if run.about.self_test:
            self_test.finish(recipe, run, output)
        else:
            _audit_again(recipe, run, output)
    elif testing.self_test:
        self_test.finish(*self_test.begin(testing.cases, changes, speaker), output)
    else:
        _audit(measured, options, changes, output)


def _audit(measured: Measured, options: Options, changes: list[str] | None, output: Output) -> None:
    """Audit the model that ``--from`` or ``--model`` means."""
    from rushkit.auditing.asked import settings_asked
    from rushkit.recipe.attack_flags import change_attacks
    from rushkit.setup.start import start_run

    speaker = output.speaker()
    recipe, checkpoint = resolve_classifier(measured, changes, speaker)
    # The ball is that of the recipe's first attack.
    kind = None if recipe.attack else "pgd"
    recipe, asked = change_attacks(recipe, kind, changes=changes or [], **options.keys()), options.asked()
    # Before the folder is made, so that settings that do not go together leave none.
    settings_asked(recipe, asked)
    run = start_run(NAME, recipe, speaker, checkpoint, asked.facts())
    _finish(recipe, checkpoint, asked, run, output)


def _audit_again(recipe: Recipe, run: Run, output: Output) -> None:
    """Go on with an audit that was stopped."""
    from rushkit.run.asked import AuditAsked
    from rushkit.setup.resume import measured_checkpoint

    _finish(recipe, measured_checkpoint(recipe, run), AuditAsked.of(run), run, output)


def _finish(recipe: Recipe, checkpoint: Checkpoint, asked: AuditAsked, run: Run, output: Output) -> None:
    """Audit, or make what is left of it, print the checks, and leave with their verdict."""
    from rushkit.auditing.asked import images_asked, settings_asked
    from rushkit.auditing.audit import audit, failed
    from rushkit.report.pictures.of_runs import draw_audit
    from rushkit.report.terminal.tables import record_table

    with run:
        settings = settings_asked(recipe, asked)
        results = audit(recipe, checkpoint, settings, run, images_asked(asked), asked.samples or 0, asked.claim)
        if run.writes:
            draw_audit(results, run.subfolder("figures"))
    output.result(results, record_table(results))
    output.speaker().say(f"run: {run.path}")
    _leave(bool(failed(results)))


def _leave(failed: bool) -> None:
    """Exit with 1 if a check failed. Among several ranks only rank 0 does, after it has printed everything."""
    if not failed or current_place().rank:
        return
    # The exit code is the verdict: there is nothing to explain.
    leave_note("cause", "", 1)
    raise typer.Exit(1)
