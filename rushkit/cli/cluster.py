"""``rushkit cluster``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_runs, complete_targets
from rushkit.cli.options import NAMES_A_RUN, Changes, Computing, Output, Ranks, numbers
from rushkit.cli.source import check_flags, open_source
from rushkit.cli.verb import verb
from rushkit.errors import UsageError, shell_line

if TYPE_CHECKING:
    from rushkit.recipe.schema import Recipe
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.speaker import Speaker

NAME = "cluster"
EXAMPLE = "Example: rushkit cluster --from cifar10 --clusters 2,10,50,100,500"
# More starts than anybody waits for.
_MOST_STARTS = 1000


@dataclass(frozen=True)
class Options:
    """Which images are clustered, by whose features, and into how many clusters."""

    clusters: Annotated[
        str | None,
        typer.Option("--clusters", metavar="K,...", help="Numbers of clusters; each makes a column of labels."),
    ] = None
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN|timm/NAME",
            help=f"{NAMES_A_RUN}, or a checkpoint; default: the newest run of pretrain. "
            "timm/NAME: pretrained weights of timm.",
            autocompletion=complete_runs,
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TARGET",
            help="The recipe or data set whose images are clustered; default: that of the run.",
            autocompletion=complete_targets,
        ),
    ] = None
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="The split; default: the one that is pre-trained on.")
    ] = None
    starts: Annotated[
        int,
        typer.Option("--starts", min=1, max=_MOST_STARTS, help="Starts of k-means; the tightest clusters are kept."),
    ] = 1

    def counts(self) -> list[int]:
        """Return the numbers of clusters. Raises UsageError if there are none, or some that no images could have."""
        from rushkit.results.clustering import check_clusters

        counts = numbers(self.clusters, "--clusters")
        if counts is None:
            raise UsageError("how many clusters? --clusters is missing", "for example --clusters 2,10,50,100,500")
        check_clusters(counts, self.starts)
        return counts


@verb
def command(*, options: Options, changes: Changes = None, computing: Computing, ranks: Ranks, output: Output) -> None:
    """Pseudo-labels: divide images into clusters by an encoder's features, for pretrain.labels or finetune.labels."""
    changes = computing.changes(changes)
    check_flags(changes)
    counts = options.counts()
    ranks.launch()
    from rushkit.report.terminal.tables import record_table
    from rushkit.setup.start import start_run
    from rushkit.training.cluster import cluster

    speaker = output.speaker()
    recipe, checkpoint = _begin(options, changes, speaker)
    with start_run(NAME, recipe, speaker, parent=str(checkpoint.path) if checkpoint else None) as run:
        results = cluster(recipe, checkpoint, counts, options.split, options.starts, run)
    output.result(results, record_table(results))
    change = shell_line("--set", f"pretrain.labels={run.path.name}")
    speaker.say(f"run: {run.path}\nnext: train on them with {change}, or finetune.labels")


def _begin(options: Options, changes: list[str], speaker: Speaker) -> tuple[Recipe, Checkpoint | None]:
    """Return the recipe and the checkpoint whose encoder it is about; None for pretrained weights."""
    from rushkit.recipe.load import check_target, derive_recipe
    from rushkit.training.cluster import PRETRAINED, pretrained_recipe, source_recipe

    if options.source is not None and options.source.startswith(PRETRAINED):
        if options.target is None:
            command = shell_line("rushkit", "cluster", "--from", options.source, "--to", "cifar10", "--clusters", 10)
            raise UsageError(
                f"which images? {options.source} is of no run, so --to is missing", f"for example: {command}"
            )
        return derive_recipe(pretrained_recipe(options.source, options.target), changes), None
    if options.target is not None:
        check_target(options.target)
    checkpoint = _encoder(options.source, changes, speaker)
    return derive_recipe(source_recipe(checkpoint, options.target), changes), checkpoint


def _encoder(source: str | None, changes: list[str], speaker: Speaker) -> Checkpoint:
    """Load a pre-trained encoder, or otherwise that of a fine-tuned model."""
    try:
        return open_source(source, changes, "pretrain", speaker)
    except UsageError:
        if source is None:
            raise
        return open_source(source, changes, ("pretrain", "finetune"), speaker)
