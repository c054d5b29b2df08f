"""Runs of clusterings with a table of the test's own, made without an encoder."""

from __future__ import annotations

import torch
from tiny_runs import QUIET
from torch import Tensor

from rushkit.recipe.schema import Recipe
from rushkit.results.clustering import Clustering, Clusters
from rushkit.run.folder import Run
from rushkit.setup.components import build_dataset, load_split
from rushkit.setup.start import start_run
from rushkit.setup.subject import fingerprint_of
from rushkit.training.labels import write_table


def dealt(count: int, clusters: int) -> Tensor:
    """Labels (count,) of clusters that the images are dealt to in turn."""
    return torch.arange(count) % clusters


def clustered(
    recipe: Recipe, *clusters: int, split: str = "train", labels: Tensor | None = None, **facts: object
) -> Run:
    """A finished clustering of a split of the recipe's data; ``facts`` replace those of its results."""
    images = load_split(recipe, build_dataset(recipe), split)
    if labels is None:
        labels = torch.stack([dealt(len(images), k) for k in clusters], dim=1)
    with start_run("cluster", recipe, QUIET) as run:
        columns = [
            Clusters(
                clusters=k,
                sizes=column.clamp(0, k - 1).bincount(minlength=k).tolist(),
                inertia=1.0,
                iterations=1,
                settled=True,
                filled=0,
            )
            for k, column in zip(clusters, labels.to(torch.int64).unbind(1), strict=True)
        ]
        results = Clustering(
            recipe=recipe.name,
            source="a test",
            data=images.name,
            images=len(images),
            content=fingerprint_of(images),
            features=8,
            seed=0,
            starts=1,
            columns=columns,
            table=write_table(run.path, labels),
        )
        run.write_results(results.with_changes(**facts))
    return run
