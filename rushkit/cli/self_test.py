"""The self-test of ``rushkit audit``: its options, and what the verb does for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.source import check_flags, runs_root
from rushkit.errors import UsageError, shell_line

if TYPE_CHECKING:
    from rushkit.cli.options import Output
    from rushkit.recipe.schema import Recipe
    from rushkit.run.folder import Run
    from rushkit.run.speaker import Speaker

# The recipe's name in the runs of self-tests.
NAME = "self-test"
# What --set may change: the self-test brings its own data and models.
_KEYS = ("system.seed", "system.runs_dir")


@dataclass(frozen=True)
class SelfTesting:
    """Whether the audit audits its own planted cases, and which of them."""

    self_test: Annotated[
        bool,
        typer.Option("--self-test", help="Audit planted defences and attacks, and count which of them are flagged."),
    ] = False
    cases: Annotated[
        list[str] | None,
        typer.Option(
            "--case",
            metavar="NAME",
            help="A case of the self-test; may be repeated. Default: all.",
        ),
    ] = None

    def check(self, flags: Mapping[str, object], changes: list[str] | None) -> None:
        """Raise UsageError for what does not go together.

        Args:
            flags: Flags of the audit of a model and their values, None for one that is not given.
            changes: As for ``--set``.
        """
        if not self.self_test:
            if self.cases:
                raise UsageError("--case without --self-test", "the cases are those of `rushkit audit --self-test`")
            return
        given = [flag for flag, value in flags.items() if value is not None]
        if given:
            raise UsageError(
                f"--self-test brings its own models, images and balls; it cannot take {', '.join(given)}",
                "leave them out, or audit a model without --self-test",
            )
        from rushkit.recipe.overrides import parse_changes, said_as

        check_flags(changes)
        for change, (key, _) in zip(changes or [], parse_changes(changes or []), strict=True):
            if key not in _KEYS:
                raise UsageError(
                    f"--self-test has no recipe; it cannot take {said_as(change, key)}",
                    f"it takes --set {' and '.join(_KEYS)}",
                )


def begin(cases: list[str] | None, changes: list[str] | None, speaker: Speaker) -> tuple[Recipe, Run]:
    """Start the run of a self-test. Raises UsageError if there is no case of a name, before a folder is made."""
    from rushkit.auditing.selftest.cases import choose
    from rushkit.auditing.selftest.stage import self_test_recipe
    from rushkit.recipe.overrides import parse_changes
    from rushkit.run.asked import SelfTestAsked
    from rushkit.setup.start import start_run

    choose(cases or [])
    seed = dict(parse_changes(changes or [])).get("system.seed", 0)
    recipe = self_test_recipe(int(str(seed)), runs_dir=runs_root(changes))
    return recipe, start_run("audit", recipe, speaker, asked=SelfTestAsked(cases=cases or []).facts())


def check_resumed(folder: str | None, changes: list[str] | None) -> None:
    """Raise UsageError if ``--self-test --resume --run FOLDER`` names the audit of a model."""
    from rushkit.run.named import run_named

    run = run_named(folder, runs_root(changes))[0] if folder else None
    if run is not None and run.verb == "audit" and not run.about.self_test:
        go_on = shell_line("rushkit", "audit", "--resume", "--run", run.path)
        raise UsageError(f"{run.path} is the audit of a model, not a self-test", f"to go on with it: {go_on}")


def finish(recipe: Recipe, run: Run, output: Output) -> None:
    """Do the self-test, or what is left of it, and print what it says. Its outcome is no verdict: the code is 0."""
    from rushkit.auditing.selftest.stage import self_test
    from rushkit.report.terminal.tables import record_table
    from rushkit.run.asked import SelfTestAsked

    with run:
        results = self_test(recipe, SelfTestAsked.of(run).cases, run)
    output.result(results, record_table(results))
    output.speaker().say(f"run: {run.path}")
