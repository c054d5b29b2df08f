"""k-means: what is known exactly, a slow reference, and that neither blocks nor their order change a label."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from rushkit.errors import NumericsError, UsageError
from rushkit.training import kmeans as module
from rushkit.training.kmeans import Points, kmeans

pytestmark = pytest.mark.usefixtures("untouched_global_state")


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def cloud(count, length, seed=0):
    return torch.randn(count, length, generator=source(seed))


def spread(features, labels):
    """The inertia in float64, written out."""
    x = features.double()
    return sum(float((x[labels == k] - x[labels == k].mean(0)).square().sum()) for k in labels.unique())


@pytest.mark.parametrize("clusters", [2, 3, 7])
def test_far_clusters_are_found_exactly(clusters):
    true = torch.arange(140) % clusters
    features = cloud(140, 5) + 1000 * cloud(clusters, 5, 1)[true]
    labels = kmeans(features, clusters, seed=0).labels
    assert len(set(zip(true.tolist(), labels.tolist(), strict=True))) == clusters


def best_of_all(features, clusters):
    """The least inertia of any labels, all of which are looked at."""
    every = (torch.tensor(labels) for labels in product(range(clusters), repeat=len(features)))
    return min(spread(features, labels) for labels in every if len(labels.unique()) == clusters)


@pytest.mark.parametrize("seed", range(3))
def test_starts_reach_the_optimum_of_a_tiny_set(seed):
    features = cloud(8, 2, seed)
    found = [kmeans(features, 3, 0, starts) for starts in (1, 30)]
    assert found[1].inertia == pytest.approx(best_of_all(features, 3), rel=1e-6)
    assert found[1].inertia <= found[0].inertia


def lloyd(features, centres, most=100):
    """Lloyd's iterations in float64, with all distances at once."""
    x, labels = features.double().numpy(), None
    for _ in range(most):
        before, labels = labels, ((x[:, None] - centres[None]) ** 2).sum(2).argmin(1)
        if before is not None and (before == labels).all():
            break
        centres = np.stack([x[labels == k].mean(0) for k in range(len(centres))])
    return labels


def test_it_does_what_a_slow_reference_does(monkeypatch):
    features, first = cloud(300, 6), torch.arange(0, 300, 60)
    monkeypatch.setattr(module, "_seeds", lambda points, clusters, source: first)
    found = kmeans(features, 5, seed=0)
    expected = lloyd(features, features[first].double().numpy())
    assert found.labels.tolist() == expected.tolist()
    assert found.inertia == pytest.approx(spread(features, found.labels), rel=1e-6)
    assert found.settled


@pytest.mark.parametrize("block", [1, 7, 50, 10**9])
@pytest.mark.parametrize("features", [cloud(200, 9), cloud(200, 9).round()], ids=["a cloud", "many ties"])
def test_blocks_of_any_size_give_the_same_labels(features, block):
    whole, blocks = (kmeans(features, 12, 3, starts=2, block=size) for size in (module.BLOCK, block))
    assert blocks.labels.tolist() == whole.labels.tolist()
    assert blocks.inertia == whole.inertia


def test_no_block_is_larger_than_asked(monkeypatch):
    largest, addmm = [], torch.addmm
    monkeypatch.setattr(
        torch, "addmm", lambda *given: (largest.append(len(given[1]) * given[2].shape[1]), addmm(*given))[1]
    )
    kmeans(cloud(500, 4), 20, 0, block=100)
    assert max(largest) == 100


def test_a_seed_gives_the_same_labels_and_another_seed_others():
    features = cloud(300, 4)
    assert kmeans(features, 9, 0).labels.tolist() == kmeans(features, 9, 0).labels.tolist()
    assert kmeans(features, 9, 0).labels.tolist() != kmeans(features, 9, 1).labels.tolist()


def test_labels_survive_a_small_difference_that_float32_cannot_see():
    """Two centres that differ by less than the rounding of the products; float64 tells them apart."""
    base = torch.ones(64, 400) + 1e-4 * cloud(64, 400)
    features = torch.cat([base, 50 * cloud(64, 400, 1)])
    points = Points.on_grid(features, module.BLOCK)
    centres = points.x[:64].double()
    assert points.nearest(centres)[:64].tolist() == list(range(64))


def test_of_equally_near_centres_the_first_counts():
    points = Points.on_grid(torch.tensor([[-1.0], [1.0], [0.0]]), module.BLOCK)
    assert points.nearest(torch.tensor([[1.0], [-1.0]], dtype=torch.float64)).tolist() == [1, 0, 0]


def test_an_empty_cluster_takes_the_farthest_image_of_a_larger_one(monkeypatch):
    # Two centres at the same place: the second gets nothing.
    features = torch.tensor([[0.0], [0.1], [3.0], [10.0], [10.2], [11.0]])
    twice = torch.tensor([0, 0, 4])
    monkeypatch.setattr(module, "_seeds", lambda points, clusters, source: twice)
    found = kmeans(features, 3, 0)
    assert found.filled == 1
    assert found.labels.tolist() == [0, 0, 1, 2, 2, 2]


def test_the_only_image_of_a_cluster_is_not_taken(monkeypatch):
    points = Points.on_grid(torch.tensor([[0.0], [1.0], [2.0], [90.0]]), module.BLOCK)
    labels = torch.tensor([0, 0, 0, 1])
    centres = torch.tensor([[0.0], [0.0], [5.0], [6.0]], dtype=torch.float64) - points.x.new_tensor([23.25]).double()
    assert module._fill(points, labels, centres) == 2
    assert labels.tolist() == [0, 3, 2, 1]


def test_no_cluster_is_ever_empty():
    for seed in range(20):
        found = kmeans(cloud(30, 1, seed).round(decimals=1), 10, seed, most=1 + seed % 3)
        assert int(found.labels.bincount(minlength=10).min()) > 0


def test_as_many_clusters_as_images_have_one_each():
    found = kmeans(cloud(12, 3), 12, 0)
    assert sorted(found.labels.tolist()) == list(range(12))
    assert found.inertia == pytest.approx(0, abs=1e-9)


def test_a_start_that_is_cut_short_says_so():
    found = kmeans(cloud(400, 2), 20, 0, most=2)
    assert (found.iterations, found.settled) == (2, False)
    assert found.inertia == pytest.approx(spread(cloud(400, 2), found.labels), rel=1e-6)


def test_distances_of_equal_features_are_exactly_zero():
    features = cloud(6, 300).repeat(2, 1) + 5
    points = Points.on_grid(features, module.BLOCK)
    distances = points.distances_to(torch.arange(6))
    assert (distances == 0).nonzero().tolist() == [[i, i % 6] for i in range(12)]
    exact = (points.x[:, None].double() - points.x[None, :6].double()).square().sum(2)
    assert torch.allclose(distances, exact, rtol=1e-4)


def test_sums_are_exact_in_any_order():
    half = cloud(500, 8) * 10 ** torch.linspace(-14, 0, 500)[:, None]
    # Around 0, so that their mean does not put them on a grid.
    points = Points.on_grid(torch.cat([half, -half]), module.BLOCK)
    some = points.x[:500].double()
    sums = [some[torch.randperm(500, generator=source(seed))].cumsum(0)[-1].tolist() for seed in range(5)]
    assert sums == sums[:1] * 5


@pytest.mark.parametrize(
    "features, clusters, message",
    [
        (cloud(5, 2), 6, "5 images cannot make 6 clusters"),
        (cloud(5, 2), 1, "cannot make 1 clusters"),
        (cloud(3, 2).repeat(4, 1), 4, "only 3 different features"),
        (torch.ones(8, 4), 2, "only 1 different features"),
    ],
)
def test_impossible_clusters_are_refused(features, clusters, message):
    with pytest.raises(UsageError, match=message):
        kmeans(features, clusters, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_are_refused(value):
    features = cloud(8, 2)
    features[3, 1] = value
    with pytest.raises(NumericsError, match="NaN or infinite"):
        kmeans(features, 2, 0)
