"""Pseudo-labels: k-means clusters of an encoder's features, as a table that a training takes in place of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from rushkit.data.memory import Split
from rushkit.distributed import ranks
from rushkit.errors import UsageError, first_few
from rushkit.image_size import as_size
from rushkit.models.backbones import timm_normalisation
from rushkit.recipe.load import build_recipe, check_target, load_recipe, transfer_recipe
from rushkit.recipe.schema import Recipe
from rushkit.recipe.toml import Table
from rushkit.registries import datasets
from rushkit.results.clustering import Clustering, Clusters, check_clusters
from rushkit.results.imported import Origin
from rushkit.results.words import cluster_words
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup import components, networks
from rushkit.setup.model import PSEUDO_LABELS, image_size_of, load_encoder, recipe_of, shape_of
from rushkit.setup.start import machine_of_run, run_or_new
from rushkit.setup.subject import check_images, fingerprint_of
from rushkit.training import knn
from rushkit.training.kmeans import kmeans
from rushkit.training.labels import VERB, write_table

# The family of backbones whose pretrained weights may take the place of a run.
PRETRAINED = "timm/"


def cluster(
    recipe: Recipe,
    source: Checkpoint | None,
    clusters: Sequence[int],
    split: str | None = None,
    starts: int = 1,
    run: Run | None = None,
) -> Clustering:
    """Divide the images of a split into clusters by the features of an encoder, for each number of clusters anew.

    The features are those of clean images, in eval mode and float32, scaled to unit length: distances are then those of
    the cosines that contrastive training works on. Labels of the data set play no part. The table is written to the
    run's ``labels.safetensors``; it is the same for any number of ranks.

    Example::

        results = cluster(recipe, open_checkpoint("cifar10"), clusters=[2, 10, 50, 100, 500])

    Args:
        recipe: The sections data, backbone and system are used.
        source: The checkpoint whose encoder gives the features; None: the pretrained weights of the recipe's backbone.
        clusters: Numbers of clusters, each of which makes a column of the table.
        split: Name of the split; None: the one that the recipe pre-trains on.
        starts: Starts of k-means for each number; the one of the least inertia is kept.
        run: The run that the table and results.json are written to; None starts a new one.

    Returns:
        The contents of results.json.

    Raises:
        UsageError: numbers of clusters that the images cannot have, or images of another size than the encoder's.
        RushkitError: the pretrained weights cannot be had.
    """
    check_clusters(clusters, starts)
    with run_or_new(run, VERB, recipe, None if source is None else source.path) as run:
        machine = machine_of_run(recipe, run)
        images = components.load_split(recipe, components.build_dataset(recipe), split or recipe.pretrain.split)
        _check_enough(images, clusters)
        encoder = _encoder(recipe, source, images).to(machine.device)
        outside = outside_of(recipe, source)
        named = recipe.backbone.name if source is None else str(source.path)
        run.speaker.say(
            f"cluster {components.describe_split(images)} by the features of {named}, of unit length; {machine}"
        )
        if outside:
            run.speaker.warn(outside)
        with run.speaker.progress(len(images), VERB, "images") as bar:
            features = knn.features(encoder, images.images, machine, bar.advance)
        columns, labels = _columns(features, images, clusters, recipe.system.seed, starts, run)
        table = write_table(run.path, labels) if run.writes else None
        return run.write_results(
            Clustering(
                recipe=recipe.name,
                source=named,
                outside=outside,
                data=images.name,
                images=len(images),
                content=fingerprint_of(images),
                features=features.shape[1],
                seed=recipe.system.seed,
                starts=starts,
                columns=columns,
                table=ranks.broadcast(table),
            )
        )


def pretrained_recipe(backbone: str, target: str) -> Recipe:
    """Return the recipe of timm's pretrained weights on a target's data, normalised as those weights want it.

    Args:
        backbone: ``"timm/NAME"``.
        target: A recipe, whose data section counts, or a data set.

    Raises:
        UsageError: timm has no weights of this name, or there is no such target.
    """
    check_target(target)
    mean, std = timm_normalisation(backbone.removeprefix(PRETRAINED))
    if target in datasets:
        name, table = target, Table(data={"name": target})
    else:
        other = load_recipe(target)
        name, table = other.name, other.resolved()
    table |= {
        "name": f"{backbone.replace('/', '-')}-to-{name}",
        "backbone": {"name": backbone, "pretrained": True, "mean": list(mean), "std": list(std)},
    }
    return build_recipe(table)


def source_recipe(source: Checkpoint, target: str | None) -> Recipe:
    """Return the recipe of a checkpoint, on a target's data if there is one: a recipe or a data set."""
    recipe = recipe_of(source)
    return recipe if target is None else transfer_recipe(recipe, target, image_size_of(source))


def outside_of(recipe: Recipe, source: Checkpoint | None) -> str:
    """Return a sentence on the outside data that an encoder's features owe to; empty where there is none."""
    backbone = recipe.backbone
    if source is None or backbone.options.get("pretrained"):
        return f"outside data: the features come from {backbone.name}, pretrained elsewhere, as a rule on ImageNet"
    if imported := source.meta.get("imported"):
        return f"outside data, perhaps: the encoder was imported, from {Origin.model_validate(imported).in_words()}"
    labels = source.meta.get(PSEUDO_LABELS)
    return str(labels.get("outside", "")) if isinstance(labels, dict) else ""


def _check_enough(images: Split, clusters: Sequence[int]) -> None:
    if too_many := [k for k in clusters if k > len(images)]:
        raise UsageError(
            f"{images.name} has {len(images)} images, too few for {first_few([str(k) for k in too_many])} clusters",
            f"ask for at most {len(images)}: --clusters",
        )


def _encoder(recipe: Recipe, source: Checkpoint | None, images: Split) -> nn.Module:
    """Return the encoder, in eval mode and without gradients."""
    if source is None:
        encoder = networks.build_encoder(
            recipe, (images.images.shape[1], as_size(*images.images.shape[2:])), fetch=True
        )
        return encoder.eval().requires_grad_(False)
    check_images(images, shape_of(source))
    return load_encoder(source)


def _columns(
    features: Tensor, images: Split, clusters: Sequence[int], seed: int, starts: int, run: Run
) -> tuple[list[Clusters], Tensor]:
    """Return what is known of each column, on every rank, and the table (N, J) int64, which rank 0 alone fills."""
    labels = torch.zeros(len(images), len(clusters), dtype=torch.int64)
    columns: list[Clusters] = []
    for place, count in enumerate(clusters if ranks.rank() == 0 else ()):
        partition = kmeans(features, count, seed, starts)
        labels[:, place] = partition.labels
        columns.append(
            Clusters(
                clusters=count,
                sizes=partition.labels.bincount(minlength=count).tolist(),
                inertia=partition.inertia,
                iterations=partition.iterations,
                settled=partition.settled,
                filled=partition.filled,
                matched=matched(partition.labels, images.labels, count),
            )
        )
        run.speaker.say(cluster_words(columns[-1]))
    tables = ranks.broadcast([column.to_table() for column in columns])
    return [Clusters.model_validate(table) for table in tables], labels


def matched(clusters: Tensor, classes: Tensor | None, count: int) -> float | None:
    """Return the share of images in the cluster of their class, under the best matching of clusters to classes.

    None without classes, or unless there are as many clusters.

    Args:
        clusters: (N,) int64, below ``count``.
        classes: (N,) int64, or None.
        count: Number of clusters.
    """
    if classes is None or len(classes.unique()) != count or int(classes.max()) != count - 1:
        return None
    pairs = (clusters * count + classes).bincount(minlength=count * count).view(count, count).numpy()
    rows, columns = linear_sum_assignment(-pairs)
    return float(np.sum(pairs[rows, columns])) / len(clusters)
