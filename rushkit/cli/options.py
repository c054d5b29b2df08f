"""Options that several verbs share, and what they do with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rushkit.cli.complete import complete_changes, complete_run_folders, complete_runs
from rushkit.errors import UsageError, shell_line
from rushkit.place import current_place

if TYPE_CHECKING:
    from rushkit.recipe.overrides import Override
    from rushkit.recipe.schema import Recipe
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.progress import Speaker

# The largest whole number that an option takes.
MOST = 10**9
# Processes of one machine.
_MOST_RANKS = 1024

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the recipe; may be given again and again.",
        autocompletion=complete_changes,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; everything else goes to stderr.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say warnings and results only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say details too.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show Python tracebacks.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="A recipe's name (its newest finished run), a run folder, or a checkpoint; else the newest run that fits.",
        autocompletion=complete_runs,
    ),
]
Samples = Annotated[
    str | None, typer.Option("--samples", metavar="M,...", help="Draws of noise a prediction, such as 1,64.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the newest run that was stopped, or with --run.")]
RunFolder = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="RUN", help="The run folder that --resume goes on with.", autocompletion=complete_run_folders
    ),
]
Every = Annotated[
    str | None,
    typer.Option(
        "--every", metavar="N", help="Epochs between checkpoints, such as 5; or steps between them, such as 500steps."
    ),
]
Keep = Annotated[
    int | None,
    typer.Option(
        "--keep", metavar="K", min=2, max=MOST, help="How many of the newest checkpoints stay; the best stays, too."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the recipe, build everything, show sizes; train nothing.")
]
TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Write the metrics for TensorBoard too; needs the extra `tensorboard`.")
]

Nproc = Annotated[
    int,
    typer.Option(
        "--nproc", metavar="N", min=1, max=_MOST_RANKS, help="Split the work over N processes (GPUs) of this machine."
    ),
]


@dataclass(frozen=True)
class Output:
    """How a command speaks: sentences through a speaker, its result as a table or as JSON."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def speaker(self) -> Speaker:
        """The voice of stages and runs."""
        from rushkit.run.progress import Speaker

        return Speaker(-1 if self.quiet else int(self.verbose), json=self.json)

    def result(self, data: Mapping[str, Any], text: Any) -> None:
        """Print the result on rank 0: the data with ``--json``, else the text or rich renderable."""
        if current_place().rank:
            return
        if self.json:
            sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")
            return
        from rich.console import Console

        from rushkit.run.progress import Showable

        # A table that is cut to a narrow pipe would lose its figures.
        width = None if sys.stdout.isatty() else 160
        # Brackets and colons are our text's own: a recipe's [section] is no style.
        Console(soft_wrap=True, width=width, highlight=False, markup=False, emoji=False).print(Showable(text))


def numbers(text: str | None, option: str) -> list[int] | None:
    """``"1,64"`` -> [1, 64]. Raises UsageError for anything else."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a list of whole numbers", f"for example {option} 1,64") from None


def training_changes(
    changes: list[str] | None, stage: str, every: str | None, keep: int | None, tensorboard: bool
) -> list[str]:
    """The changes to a recipe with those that the flags of a training verb stand for."""
    given = {f"{stage}.save_every": every, f"{stage}.keep": keep, "system.tensorboard": "true" if tensorboard else None}
    return [*(changes or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]


def runs_root(changes: list[str] | None) -> str:
    """The folder of runs under flags and environment, before there is a recipe."""
    from rushkit.recipe.load import default_runs_dir
    from rushkit.recipe.overrides import parse_changes

    chosen = dict(parse_changes(changes or [])).get("system.runs_dir")
    return str(chosen or default_runs_dir())


def open_source(
    spec: str | None, changes: list[str] | None, verbs: str | Sequence[str], speaker: Speaker
) -> Checkpoint:
    """The checkpoint that ``--from`` means; of a run that was not named, the speaker says which it is."""
    from rushkit.run.find import resolve_from

    found = resolve_from(spec, runs_root(changes), verbs)
    if spec is None and found.run is not None:
        speaker.say(f"from the newest run that fits: {found.run.path}")
    return found.load(warn=speaker.warn)


def resolve_classifier(
    spec: str | None, changes: list[str] | None, speaker: Speaker, flags: Iterable[Override] = ()
) -> tuple[Recipe, Checkpoint]:
    """The fine-tuned checkpoint that ``--from`` means, and its recipe under this command's ``--set`` and flags."""
    from rushkit.recipe.load import derive_recipe
    from rushkit.setup.model import recipe_of

    checkpoint = open_source(spec, changes, "finetune", speaker)
    stored = recipe_of(checkpoint)
    recipe = derive_recipe(stored, changes or [], flags=flags)
    if recipe.backbone != stored.backbone:
        raise UsageError(
            f"{checkpoint.path} holds a {stored.backbone.name}, and --set cannot make another backbone of it",
            "pre-train and fine-tune the other one, then name its run with --from",
        )
    return recipe, checkpoint


def check_resume(
    resume: bool,
    run_folder: str | None,
    flags: Mapping[str, Any] | None = None,
    hint: str = "start a new run without --resume",
) -> None:
    """Raise UsageError for --run without --resume, and for --resume beside a flag that says what a new run does.

    Args:
        resume: Whether --resume was given.
        run_folder: What --run names; without --resume a new run begins, which is in no folder yet.
        flags: Such flags and their values, None where one was not given: a run goes on with what it was started with.
        hint: What to do without them.
    """
    if run_folder is not None and not resume:
        raise UsageError(
            "--run without --resume",
            f"to go on with it: {shell_line('--resume', '--run', run_folder)}; else leave --run out",
        )
    given = [flag for flag, value in (flags or {}).items() if value is not None]
    if resume and given:
        raise UsageError(f"--resume goes on with what the run was started with; it cannot take {given[0]}", hint)
