"""Square: its windows, its peers in all norms, and images that do not know each other."""

import pytest
import torch
from planted_models import Box, accuracy, reach, small_network, spaced
from torch import nn

from rushkit.attacks import square_windows
from rushkit.attacks.norms import length
from rushkit.attacks.square import PANEL_QUERIES, Square
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator

RADII = {"linf": 0.08, "l2": 0.6, "l1": 2.0}
NORMS = list(RADII)


@pytest.fixture(scope="module")
def trained():
    model, x, y = small_network(images=200)
    return model.eval(), x, y


def source(number=0):
    return generator(0, "test", number)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 12, 12), (1, 6, 6), (1, 4, 9), (2, 1, 1), (1, 2, 3)])
@pytest.mark.parametrize("norm", NORMS)
def test_every_proposal_lies_in_ball_and_box_on_any_size_of_image(norm, shape):
    x = torch.rand((3, *shape), generator=source())
    eps = RADII[norm]
    kept = square_windows.start(x, norm, eps, source())
    for query in (1, 11, 60, 300, 3000, 9000):
        tried = square_windows.proposal(x, kept, norm, eps, query, source(query))
        for image in (kept, tried):
            assert image.min() >= 0
            assert image.max() <= 1
            assert (length(image.double() - x, norm) <= eps * (1 + 1e-5)).all()
        kept = tried


def test_the_share_of_the_window_halves_as_in_the_official_schedule():
    """p is .8, and it is halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 queries."""
    halvings = {1: 0, 10: 0, 11: 1, 50: 1, 51: 2, 201: 3, 501: 4, 1001: 5, 2001: 6, 4001: 7, 6001: 8, 8001: 9}
    for query, halved in halvings.items():
        side = round((0.8 / 2**halved * 224 * 224) ** 0.5)
        assert square_windows.window_side("linf", 224, 224, query) == side
        assert square_windows.window_side("l2", 224, 224, query) == max(side + (side % 2 == 0), 3)


def test_a_window_can_lie_at_every_place():
    """27 places down and across, each as likely, and half the signs change something: one row missed in 1e-15 of seeds.

    The official code leaves out the last row and column.
    """
    x = torch.full((1, 1, 28, 28), 0.5)
    changed = torch.zeros(28, 28, dtype=torch.bool)
    kept = square_windows.start(x, "linf", 0.1, source())
    for number in range(2000):
        changed |= (square_windows.proposal(x, kept, "linf", 0.1, 8001, source(number)) != kept)[0, 0]
    assert changed.any(0).all()
    assert changed.any(1).all()


@pytest.mark.parametrize("norm, power", [("l2", 2), ("l1", 4)])
def test_a_bump_is_two_peaks_of_opposite_signs_and_unit_length(norm, power):
    """A peak of 3 x 7, written out: k^-power summed over the rectangles that cover a point."""
    bump = square_windows._bump(7, norm, source())
    assert bump.norm(p=2 if norm == "l2" else 1) == pytest.approx(1)
    bump = bump if (bump[:3] > 0).all() else bump.T
    assert (bump[:3] > 0).all()
    assert (bump[3:] < 0).all()
    peak = torch.tensor(
        [[sum(k**-power for k in range(max(abs(i - 1), abs(j - 3)) + 1, 5)) for j in range(7)] for i in range(3)]
    )
    torch.testing.assert_close(bump[:3] / bump[1, 3], (peak / peak[1, 3]).double(), rtol=1e-6, atol=0)


# pyautoattack 0.2.0, which has l1, on the same images, 100 queries, seeds 0 to 5 (with the positions of below).
OFFICIAL_L1 = (169, 165, 170, 164, 170, 176)


@pytest.mark.parametrize("norm", NORMS)
def test_it_leaves_what_its_peers_leave(norm, trained, monkeypatch):
    """Over seeds both vary by about 5 images of 200: means of 6 lie within 9 of each other but for 0.2 % of seeds.

    torchattacks never puts a window at the last row and column, which weakens it on 8x8 images; here it does.
    """
    model, x, y = trained
    eps, queries = {**RADII, "linf": 0.1}[norm], 100
    ours = [accuracy(model, Square(norm, eps, queries, seed=seed)(model, x, y), y) for seed in range(6)]
    theirs = list(OFFICIAL_L1)
    if norm != "l1":
        torchattacks = pytest.importorskip("torchattacks")

        def anywhere(self, low=0, high=1, shape=(1,)):
            return (low + (high + 1 - low) * torch.rand(shape)).long()

        monkeypatch.setattr(torchattacks.Square, "random_int", anywhere)
        with torch.random.fork_rng():
            options = {"n_queries": queries, "resc_schedule": False}
            peers = [torchattacks.Square(model, norm.capitalize(), eps, seed=seed, **options) for seed in range(6)]
            theirs = [accuracy(model, peer(x, y), y) for peer in peers]
    assert 0 < sum(theirs) < 6 * len(x)
    assert abs(sum(ours) - sum(theirs)) / 6 <= 9


@pytest.mark.parametrize("smoothed", [False, True], ids=["plain", "smoothed"])
@pytest.mark.parametrize("norm", NORMS)
def test_an_image_finds_the_same_whoever_is_beside_it(norm, smoothed, trained):
    model, x, y = trained
    attacked = SmoothedClassifier(model, Box(0.02), samples=4, seed=0) if smoothed else model
    attack = Square(norm, RADII[norm], queries=2 * PANEL_QUERIES + 5)
    together = attack.run(attacked, x[:12], y[:12])
    for row in (0, 7):
        alone = attack.run(attacked, x[row : row + 1], y[row : row + 1])
        torch.testing.assert_close(alone.x_adv[0], together.x_adv[row], atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_model_is_broken_well_inside_the_ball_and_never_beyond(norm):
    model, x, y, _ = spaced("linf")
    eps = {"linf": 0.042, "l2": 0.25, "l1": 1.3}[norm]
    u = model.weight[0].detach()
    gain = eps * u.norm(p={"linf": 1, "l2": 2, "l1": float("inf")}[norm])
    with torch.no_grad():
        margin = model(x).diff(dim=1)[:, 0].abs() / 2
    result = Square(norm, eps, queries=1000).run(model, x, y)
    assert not result.success[margin > gain * (1 + 1e-5)].any()
    assert result.success[margin < 0.6 * gain].all()
    assert reach(x, result.x_adv, norm) <= eps


def test_without_leaving_early_the_passes_are_known_in_advance(trained):
    """16 + 16 images show whether the model is random; then the images, the queries and a vote, for each image."""
    model, x, y = trained
    assert Square("l1", 2.0, queries=30, stop_early=False).run(model, x[:5], y[:5]).image_forwards == 32 + 5 * (
        1 + 30 + 1
    )


def test_a_smoothed_model_costs_its_queries_and_what_the_selection_sees(trained):
    """One pass shows K; the selection sees the image and what is kept after every panel; one vote, here never split."""
    model, x, y = trained
    g = SmoothedClassifier(model, Box(0.001), samples=4, seed=0)
    result = Square("linf", 1e-3, queries=110, selection_samples=30, stop_early=False).run(g, x[:5], y[:5])
    assert result.image_forwards == 1 + 5 * (110 * 4 + (1 + 3) * 30 + 30)


def test_what_luck_on_one_panel_gains_does_not_last():
    """Answers that are noise alone: every panel starts anew, and nothing is a success."""

    class Noise(nn.Module):
        def forward(self, x):
            wave = torch.sin(1e4 * x.flatten(1).sum(1))
            return torch.stack([0.5 + wave, -0.5 - wave], dim=1)

    x, y = torch.full((6, 1, 6, 6), 0.5), torch.zeros(6, dtype=torch.int64)
    g = SmoothedClassifier(Noise(), Box(0.3), samples=5, seed=0)
    result = Square("linf", 0.1, queries=300, selection_samples=101).run(g, x, y)
    assert not result.success.any()
