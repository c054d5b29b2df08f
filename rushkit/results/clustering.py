"""Results of a clustering: what was clustered by which features, and how large and tight the clusters are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rushkit.errors import UsageError
from rushkit.results.base import Number, Record, Share, Size, StageResults

# More images than any split has, and more columns than anybody asks for: a results.json may come from anybody.
MOST_LABELLED = 10**8
MOST_COLUMNS = 64


class Clusters(Record):
    """One column of the table: the images in k clusters.

    Attributes:
        clusters: k.
        sizes: (k,) number of images in each cluster.
        inertia: Sum of the squared distances of the features to the means of their clusters.
        iterations: Iterations of the start that was kept.
        settled: Whether its last iteration changed no label.
        filled: How often it gave an empty cluster another image.
        matched: Share of the images whose class is that of their cluster, in the best matching of clusters to classes;
            it is shown and chooses nothing. None without labels, or with fewer clusters than classes.
    """

    clusters: Annotated[int, Field(ge=2, le=MOST_LABELLED)]
    sizes: list[Number]
    inertia: Size
    iterations: Number
    settled: bool
    filled: Annotated[int, Field(ge=0)]
    matched: Share | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if len(self.sizes) != self.clusters:
            raise ValueError(f"{len(self.sizes)} sizes for {self.clusters} clusters")
        return self


class Clustering(StageResults):
    """Results of ``rushkit cluster``; the labels themselves lie in the run's ``labels.safetensors``.

    Attributes:
        recipe: The recipe's name.
        source: Path of the checkpoint whose encoder gives the features, or the name of pretrained weights.
        outside: What the features owe to data from outside, such as pretrained weights; empty: nothing.
        data: Data set and split.
        images: Number of images N.
        content: Hash of the images in their order, and of their labels if there are any.
        features: Length of the features, which are scaled to unit length.
        seed: Seed of all draws.
        starts: Starts of k-means for each number of clusters; the one of the least inertia is kept.
        columns: What is known of each column of the table, in its order.
        table: Hash of the table (N, J).
    """

    stage: Literal["cluster"] = "cluster"
    recipe: str
    source: str
    outside: str = ""
    data: str
    images: Annotated[int, Field(ge=2, le=MOST_LABELLED)]
    content: str
    features: Number
    seed: int
    starts: Number
    columns: Annotated[list[Clusters], Field(min_length=1, max_length=MOST_COLUMNS)]
    table: str

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if len({column.clusters for column in self.columns}) < len(self.columns):
            raise ValueError("two columns have the same number of clusters")
        for column in self.columns:
            if sum(column.sizes) != self.images:
                raise ValueError(f"the sizes of {column.clusters} clusters do not add up to {self.images} images")
        return self


def check_clusters(clusters: Sequence[int], starts: int = 1) -> None:
    """Raise UsageError for numbers of clusters, or of starts, that no images could have."""
    if not clusters or min(clusters) < 2:
        raise UsageError(
            f"one cluster tells nothing apart: numbers from 2 on are needed (got {list(clusters)})",
            "for example --clusters 2,10,50,100,500",
        )
    if len(set(clusters)) < len(clusters):
        raise UsageError(f"a number of clusters comes twice in {list(clusters)}", "name each of them once")
    if len(clusters) > MOST_COLUMNS:
        raise UsageError(f"{len(clusters)} numbers of clusters are more than {MOST_COLUMNS}", "make another table")
    if starts < 1:
        raise UsageError(f"k-means needs a start (got {starts})", "--starts 1")
