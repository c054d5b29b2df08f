"""Pseudo-labels: the table that ``rushkit cluster`` writes, and the labels that a training takes from one.

A table is one file of a clustering's run, ``labels.safetensors``, in the form of a checkpoint: the tensor ``labels``,
int64 (N, J), with a hash over it. It counts for the images that it was made of alone, in their order.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rushkit.data.memory import Split
from rushkit.errors import CheckpointError, DataError, UsageError, first_few, shell_line, showable
from rushkit.objectives import LearnsLabels
from rushkit.paths import reason, regular_stat
from rushkit.recipe.find import called_like
from rushkit.recipe.schema import Recipe, Training
from rushkit.recipe.variant import base_name
from rushkit.results import read
from rushkit.results.clustering import Clustering
from rushkit.results.training import PseudoLabels
from rushkit.run.checkpoint import checkpoint_hash, load_checkpoint, save_checkpoint
from rushkit.run.folder import Run
from rushkit.run.info import RunInfo, find_runs, is_run
from rushkit.run.named import Wish, find_named
from rushkit.setup import components
from rushkit.system import generator

TABLE_FILE = "labels.safetensors"
VERB = "cluster"
logger = logging.getLogger(__name__)

# The name of the tensor.
_LABELS = "labels"
# Bytes that a table's file may have beside its labels.
_HEADER = 1 << 20


@dataclass(frozen=True)
class Table:
    """The labels of a training that come from a clustering.

    Attributes:
        labels: (N,) int64 for one column, (N, J) for several.
        columns: The number of clusters of each column.
        origin: Which clustering it is, and which of its columns.
    """

    labels: Tensor
    columns: tuple[int, ...]
    origin: PseudoLabels

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the clusters of the first column, which stand for those of classes."""
        return tuple(f"cluster {index}" for index in range(self.columns[0]))


def check_labels(recipe: Recipe) -> None:
    """Check that a clustering is named if the pre-training's objective learns labels, and only then.

    Args:
        recipe: Sections pretrain and data.

    Raises:
        UsageError: ``pretrain.labels`` is missing, or is one too many.
    """
    settings = recipe.pretrain
    objective = components.build_objective(recipe, settings)
    learns = isinstance(objective, LearnsLabels) and objective.learns_labels
    if settings.labels and not learns:
        raise UsageError(
            f"pretrain.labels: the objective {settings.objective!r} learns no labels",
            "leave it out, or choose an objective that does: docs/objectives.md",
        )
    if learns and not settings.labels:
        maker = called_like(recipe.data.name)
        named = shell_line(
            "rushkit", "pretrain", "--recipe", base_name(recipe.name), "--set", f"pretrain.labels={maker}"
        )
        raise UsageError(
            f"objective {settings.objective!r} learns the labels of a clustering, "
            "and none is named: pretrain.labels is missing",
            f"make them with: {shell_line('rushkit', VERB, '--from', maker, '--clusters', '2,10,50,100,500')}; "
            f"and name them: {named}",
        )


def write_table(folder: Path, labels: Tensor) -> str:
    """Write the table (N, J) of a clustering into its run's folder, and return its hash.

    Raises:
        RushkitError: no room or no permission.
    """
    path = folder / TABLE_FILE
    save_checkpoint(path, {_LABELS: labels.to(torch.int64)}, {})
    return str(checkpoint_hash(path))


def read_table(folder: Path, record: Clustering) -> Tensor:
    """Return the table (N, J) int64 that lies beside a clustering's results.

    Raises:
        CheckpointError: it is missing, damaged, larger than the results say, or another one.
    """
    path, shape = folder / TABLE_FILE, (record.images, len(record.columns))
    try:
        size = regular_stat(path).st_size
    except OSError as error:
        raise CheckpointError(f"there is no table of labels {path}: {reason(error)}", _again(folder)) from error
    # Before it is read: what the results name is all the memory that it may take.
    if size > 8 * shape[0] * shape[1] + _HEADER:
        raise CheckpointError(f"{path} has {size} bytes, more than labels of {shape[0]} images", _again(folder))
    stored = load_checkpoint(path)
    labels = stored.tensors.get(_LABELS)
    if labels is None or labels.dtype != torch.int64 or labels.shape != shape or len(stored.tensors) != 1:
        found = {name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in stored.tensors.items()}
        raise CheckpointError(f"{path} is no int64 table of {shape[0]} x {shape[1]} labels: {found}", _again(folder))
    for column, values in zip(record.columns, labels.unbind(1), strict=True):
        if int(values.min()) < 0 or int(values.max()) >= column.clusters:
            raise CheckpointError(f"{path} has a label outside 0..{column.clusters - 1}", _again(folder))
        if values.bincount(minlength=column.clusters).tolist() != column.sizes:
            raise CheckpointError(f"{path}: {column.clusters} clusters have other sizes than stated", _again(folder))
    if stored.hash != record.table:
        raise CheckpointError(f"{path} is another table than {folder} has results of", _again(folder))
    return labels


def table_for(
    recipe: Recipe, settings: Training, split: Split, content: str, recorded: PseudoLabels | None = None
) -> Table | None:
    """Return the labels that ``labels`` of a training's section names; None where it names none.

    Args:
        recipe: Says where runs lie.
        settings: The section.
        split: The training images.
        content: Their hash, by ``fingerprint_of``.
        recorded: Which table the run began with, where it is resumed.

    Raises:
        UsageError: no such clustering, an unfinished one, one of other images, or without a wanted column.
        CheckpointError: the table is damaged, or not that with which the run began.
    """
    if not settings.labels:
        return None
    info = _find(recorded.run if recorded else settings.labels, recipe.system.runs_dir)
    record = _results(info)
    _check_images(info, record, split, content)
    table = read_table(info.path, record)
    if recorded is not None and record.table != recorded.table:
        raise CheckpointError(
            f"the labels changed: {info.path} holds another table than this run began with",
            "put the clustering back as it was, or start a new run",
        )
    known = [column.clusters for column in record.columns]
    wanted = settings.labels_clusters or known
    if lacking := [clusters for clusters in wanted if clusters not in known]:
        raise UsageError(
            f"labels_clusters: {info.path} has no column of {first_few(list(map(str, lacking)))} clusters",
            f"it has: {', '.join(map(str, known))}",
        )
    chosen = table[:, [known.index(clusters) for clusters in wanted]]
    labels = chosen[:, 0] if len(wanted) == 1 else chosen
    origin = PseudoLabels(
        run=str(info.path.resolve()), table=record.table, clusters=list(wanted), outside=record.outside
    )
    return Table(labels.contiguous(), tuple(wanted), origin)


def random_table(settings: Training, images: int) -> Table | None:
    """Return random labels in the place of a clustering's, to measure how fast the training is.

    Args:
        settings: A training's section, which may say which columns; None is returned if it names no clustering.
        images: N, the number of images.
    """
    if not settings.labels:
        return None
    columns = tuple(settings.labels_clusters) or (10,)
    draws = generator(0, "labels")
    labels = torch.stack([torch.randint(clusters, (images,), generator=draws) for clusters in columns], dim=1)
    origin = PseudoLabels(run="random", table="", clusters=list(columns))
    return Table(labels if len(columns) > 1 else labels[:, 0], columns, origin)


def recorded_by(run: Run | None) -> PseudoLabels | None:
    """Return the table that a run began with, by a path that leads there; None for a new run."""
    labels = None if run is None else run.about.labels
    if run is None or labels is None or is_run(Path(labels.run)):
        return labels
    # Both folders may have been moved together.
    return labels.with_changes(run=str(run.path.resolve().parent / Path(labels.run).name))


def _find(spec: str, root: str) -> RunInfo:
    """Return the run of a clustering that a name means, by the rule of ``run.named``."""
    named = find_named(spec, root, (Wish((VERB,)), Wish((VERB,), ())))
    if named is not None and named.run is not None:
        if named.note:
            logger.warning("%s", showable(named.note))
        return _clustering(named.run)
    runs = [run for run in find_runs(root) if run.verb == VERB]
    there = f"there are: {first_few([run.path.name for run in runs], 5)}" if runs else "there is none"
    raise UsageError(
        f"no clustering {spec!r} in {root}", f"{there}; make one with: rushkit cluster --from RUN --clusters 10"
    )


def _clustering(run: RunInfo) -> RunInfo:
    """Return a run, if it is a finished clustering. Raises UsageError otherwise."""
    if run.verb != VERB:
        kind = f"a run of {run.verb}" if run.verb else f"a {run.status} run"
        raise UsageError(f"{run.path} is {kind}; labels come from one of {VERB}", "rushkit cluster makes such a run")
    if run.status != "finished":
        raise UsageError(f"{run.path} is {run.status}: it has no labels to train with", _again(run.path))
    return run


def _results(run: RunInfo) -> Clustering:
    """Return the results of a clustering. Raises DataError for damaged ones and for those of another stage."""
    record = read(run.path)
    if not isinstance(record, Clustering):
        raise DataError(f"{run.path} has no results of a clustering", _again(run.path))
    return record


def _check_images(run: RunInfo, record: Clustering, split: Split, content: str) -> None:
    """Raise UsageError unless a table was made of these very images."""
    if record.content == content and record.images == len(split):
        return
    if record.data != split.name:
        differs = f"{record.data}, and not of {split.name}"
    elif record.images != len(split):
        differs = f"{record.images} images of {split.name}, and there are {len(split)} here"
    else:
        differs = f"{split.name}, but of other images, of another size or in another order"
    kinds = ",".join(str(column.clusters) for column in record.columns)
    raise UsageError(
        f"the labels of {run.path} are of {differs}",
        f"cluster the images that are trained on: rushkit cluster --from RUN --clusters {kinds}, under the same split, "
        "data.limit, data.validation and data.image_size",
    )


def _again(folder: Path) -> str:
    return f"make the labels anew: rushkit cluster; {folder.name} cannot be used"
