"""Options that several verbs share: groups of them as dataclasses, for ``cli.verb``, and single ones as annotations."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_changes, complete_devices, complete_runs, complete_splits, complete_trackers
from rushkit.cli.panels import CERTIFICATE
from rushkit.distributed.notes import noted_run
from rushkit.errors import UsageError, shell_line, shorten
from rushkit.paths import expand_text
from rushkit.place import current_place, take_place
from rushkit.prose import width_of
from rushkit.ratio import number

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rushkit.results.base import StageResults
    from rushkit.run.speaker import Speaker

# The largest whole number that an option takes.
MOST = 10**9
# Processes of one machine.
_MOST_RANKS = 1024

# The rule of ``run.named`` in a help text.
NAMES_A_RUN = "A recipe's name (its newest finished run), a run's id or the end of it, a path, shipped/NAME"

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the recipe; may be repeated.",
        autocompletion=complete_changes,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; everything else goes to stderr.")
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help=f"{NAMES_A_RUN}, or a checkpoint; default: the newest run that fits.",
        autocompletion=complete_runs,
    ),
]
Samples = Annotated[
    str | None, typer.Option("--samples", metavar="M,...", help="Draws of noise a prediction, such as 1,64.")
]

Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="NAME",
        autocompletion=complete_splits,
        help="Which images of the data set: test, train, ...; default: the recipe's.",
    ),
]
Skip = Annotated[
    int | None,
    typer.Option("--skip", metavar="K", min=1, max=MOST, help="Only every K-th image; --limit chooses among these."),
]


RunsDir = Annotated[
    str,
    typer.Option(
        "--runs-dir", envvar="RUSHKIT_RUNS", help="The folder of runs.", show_default=True, callback=expand_text
    ),
]


class NormName(StrEnum):
    """The norm of the ball."""

    L1 = "l1"
    L2 = "l2"
    LINF = "linf"


NormOfBall = Annotated[
    NormName | None,
    typer.Option(
        "--norm",
        rich_help_panel=CERTIFICATE,
        case_sensitive=False,
        help="The norm of the ball; default: the recipe's, or the noise's own: l1 under uniform, Laplace and split "
        "noise, l2 under Gaussian noise.",
    ),
]
Alpha = Annotated[
    float | None, typer.Option("--alpha", help="Probability that an image's certificate is false; default: 0.001.")
]


@dataclass(frozen=True)
class Output:
    """How a command speaks: sentences through a speaker, and its result as a table or as JSON."""

    json: Json = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and results only.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print details too.")] = False

    def speaker(self) -> Speaker:
        """Return the speaker of stages and runs."""
        from rushkit.run.speaker import Speaker

        return Speaker(-1 if self.quiet else int(self.verbose), json=self.json)

    def result(self, data: Mapping[str, object] | StageResults, text: RenderableType) -> None:
        """Print the result on rank 0: the data under ``--json``, otherwise the text or table."""
        if current_place().rank:
            return
        if self.json:
            sys.stdout.write(json.dumps(as_json(data), indent=2, allow_nan=False) + "\n")
            return
        from rich.console import Console

        from rushkit.bar import Showable, with_prose_wrapped

        # In a narrow pipe a table would be cut and lose its figures.
        width = 160
        if sys.stdout.isatty():
            width = width_of(sys.stdout)
            text = with_prose_wrapped(text, width)
        # The text is plain: [section] of a recipe is no style of rich.
        Console(soft_wrap=True, width=width, highlight=False, markup=False, emoji=False).print(Showable(text))


@dataclass(frozen=True)
class Resuming:
    """Whether a command goes on with a run that was stopped, and with which."""

    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest run that was stopped, or with --run.")
    ] = False
    run_folder: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="The run that --resume goes on with: its id or the end of it, a recipe's name, or a path.",
            autocompletion=complete_runs,
        ),
    ] = None

    def check(self, flags: Mapping[str, object] | None = None, hint: str = "start a new run without --resume") -> None:
        """Raise UsageError for --run without --resume, and for --resume beside a flag that says what a new run does.

        Args:
            flags: Those flags and their values, None for one that is not given.
            hint: What to do instead.
        """
        if self.run_folder is not None and not self.resume:
            raise UsageError(
                "--run without --resume",
                f"to go on with it: {shell_line('--resume', '--run', self.run_folder)}; else leave --run out",
            )
        given = [flag for flag, value in (flags or {}).items() if value is not None]
        if self.resume and given:
            raise UsageError(f"--resume goes on with what the run was started with; it cannot take {given[0]}", hint)


def with_flags(changes: list[str] | None, *flags: tuple[str, str, object]) -> list[str]:
    """Return the changes of ``--set`` with those that flags stand for: (flag, key, value), None for one not given."""
    from rushkit.recipe.overrides import FlagChange

    return [*(changes or []), *(FlagChange(*flag) for flag in flags if flag[2] is not None)]


@dataclass(frozen=True)
class Computing:
    """What all draws follow from, and what computes."""

    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="The seed of every draw; default: the recipe's.")
    ] = None
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            autocompletion=complete_devices,
            help="auto, cpu, cuda, cuda:1 or mps; default: the recipe's.",
        ),
    ] = None

    def changes(self, changes: list[str] | None) -> list[str]:
        """Return the changes to a recipe, with those that these flags stand for."""
        return with_flags(changes, ("--seed", "system.seed", self.seed), ("--device", "system.device", self.device))


@dataclass(frozen=True)
class Training:
    """How a training keeps its checkpoints, who follows it, and whether it trains at all."""

    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", min=1, max=MOST, help="Passes over the training images.")
    ] = None
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", min=2, max=MOST, help="Images a step, of all ranks.")
    ] = None
    lr: Annotated[float | None, typer.Option("--lr", metavar="RATE", help="The largest learning rate.")] = None
    split: Split = None
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            metavar="N",
            help="Epochs between checkpoints, such as 5; or steps between them, such as 500steps.",
        ),
    ] = None
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", metavar="K", min=2, max=MOST, help="How many of the newest checkpoints stay; the best stays, too."
        ),
    ] = None
    track: Annotated[
        str | None,
        typer.Option(
            "--track",
            metavar="NAME,...",
            help="Show the metrics to these trackers too: tensorboard, wandb; each needs the extra of its name.",
            autocompletion=complete_trackers,
        ),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe, build everything, show sizes; train nothing.")
    ] = False

    def changes(self, stage: str, changes: list[str] | None) -> list[str]:
        """Return the changes to a recipe, with those that these flags stand for."""
        return with_flags(
            changes,
            ("--epochs", f"{stage}.epochs", self.epochs),
            ("--batch-size", f"{stage}.batch_size", self.batch_size),
            ("--lr", f"{stage}.optimizer.lr", self.lr),
            ("--split", f"{stage}.split", self.split),
            ("--every", f"{stage}.save_every", self.every),
            ("--keep", f"{stage}.keep", self.keep),
            ("--track", "system.trackers", None if self.track is None else _names(self.track)),
        )

    def check(self, resuming: Resuming) -> None:
        """Raise UsageError for --resume with --dry-run: a resume trains."""
        if resuming.resume and self.dry_run:
            raise UsageError("--resume goes on training, --dry-run trains nothing", "leave one of them out")


def _names(text: str) -> str:
    """Return names with commas between them as a TOML list; no name at all is the empty list."""
    return json.dumps([name.strip() for name in text.split(",") if name.strip()], ensure_ascii=False)


@dataclass(frozen=True)
class Ranks:
    """How many processes share the work of a command."""

    context: typer.Context
    nproc: Annotated[
        int,
        typer.Option(
            "--nproc",
            metavar="N",
            min=1,
            max=_MOST_RANKS,
            help="Split the work over N processes (GPUs) of this machine.",
        ),
    ] = 1

    @property
    def attempts(self) -> int:
        """How often the ranks are started again."""
        return 0

    def launch(self) -> None:
        """Go on as one of the ranks, or run them all and exit with their code.

        Raises:
            UsageError: the variables of torchrun in the environment make no sense, or are of a job of another size.
        """
        place = take_place()
        if place.world == 1 and self.nproc > 1:
            from rushkit.distributed.start import run_ranks

            arguments = self.context.find_root().obj or sys.argv[1:]
            raise typer.Exit(run_ranks([sys.executable, "-m", "rushkit", *arguments], self.nproc, self.attempts))
        if self.nproc not in (1, place.world):
            raise UsageError(
                f"--nproc {self.nproc} in a job of {place.world} ranks, as the environment variable WORLD_SIZE says",
                "leave --nproc out under torchrun; what another job left in the shell goes with: unset WORLD_SIZE RANK",
            )


@dataclass(frozen=True)
class ReplacedRanks(Ranks):
    """How many processes share the work of a command that resumes exactly, and how many lost ones are replaced."""

    restarts: Annotated[
        int,
        typer.Option(
            "--restarts",
            metavar="K",
            min=0,
            max=_MOST_RANKS,
            help="When one of the N processes is killed, start all again from the last checkpoint, K times at most.",
        ),
    ] = 0

    @property
    def attempts(self) -> int:
        """How often the ranks are started again."""
        return self.restarts

    def go_on(self, resuming: Resuming, changes: list[str] | None) -> tuple[Resuming, list[str]]:
        """Launch, and in a later attempt of a job return what goes on with the run of the first, and its changes.

        Raises:
            UsageError: as ``launch``; or there are no ranks to start again.
        """
        if self.restarts and self.nproc == 1 and take_place().world == 1:
            raise UsageError(
                "--restarts without --nproc: there is one process, and nothing that would start it again",
                "add --nproc 2, or as many as there are GPUs; torchrun has a count of its own",
            )
        self.launch()
        run = noted_run() if current_place().on_one_machine else None
        if run is None:
            return resuming, changes or []
        # A new run has kept its changes in its recipe.
        return Resuming(True, run), (changes or []) if resuming.resume else []


def as_json(data: Mapping[str, object] | StageResults) -> Mapping[str, object]:
    """Return what ``--json`` prints of a stage's results; other data is that already."""
    return data if isinstance(data, Mapping) else data.to_json()


def numbers(text: str | None, option: str) -> list[int] | None:
    """``"1,64"`` -> [1, 64]. Raises UsageError for anything else."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a list of whole numbers", f"for example {option} 1,64") from None


def decimals(text: str | None, option: str) -> list[float] | None:
    """``"0.5,8/255"`` -> [0.5, 0.03137...]. Raises UsageError for anything else."""
    if text is None:
        return None
    try:
        return [number(part.strip()) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"{option} {shorten(text)!r} is not a list of numbers", f"for example {option} 0.485,0.456,0.406"
        ) from None
