"""CutMix pastes one box into every image, and mixes labels by the pixels that it really covers."""

from __future__ import annotations

import pytest
import torch
from batches import batch_of, losses_of
from robust_losses import images_of, network_of, wide
from torch.nn import functional as F

from rushkit.objectives.cutmix import cutmix
from rushkit.objectives.pgd_at import PgdAt
from rushkit.objectives.trades import Trades


class Planted:
    """Black images of class 0 whose partners are white ones of class 1, with a box of choice."""

    def __init__(self, area, row, column, size=8, value=0):
        self.area, self.row, self.column, self.size, self.value = area, row, column, size, value

    def view(self):
        return torch.full((2, 3, self.size, self.size), float(self.value))

    def targets(self):
        return F.one_hot(torch.full((2,), self.value), 2).double()

    def numbers(self, count):
        return torch.tensor([self.area, self.row, self.column][:count])

    def shuffled(self):
        return Planted(0, 0, 0, self.size, 1)


@pytest.mark.parametrize("area, row, column, rows, columns", [
    (0.25, 0.5, 0.5, range(2, 6), range(2, 6)),
    (0.25, 0.0, 0.5, range(2), range(2, 6)),
    (0.25, 1.0, 0.0, range(6, 8), range(2)),
    (1.0, 0.5, 0.25, range(8), range(6)),
    (0.0, 0.5, 0.5, range(0), range(0)),
])  # fmt: skip
def test_the_box_has_the_area_and_the_centre_that_were_drawn_and_ends_at_the_border(area, row, column, rows, columns):
    x, target = cutmix(Planted(area, row, column))
    expected = torch.zeros(8, 8)
    expected[rows.start : rows.stop, columns.start : columns.stop] = 1
    assert torch.equal(x, expected.expand(2, 3, 8, 8))
    covered = len(rows) * len(columns) / 64
    assert target.tolist() == [[1 - covered, covered]] * 2


def test_labels_have_the_share_of_the_pixels_that_stay_and_the_mean_share_is_that_of_uniform_areas():
    source, covered = torch.Generator().manual_seed(0), []
    for _ in range(1000):
        x, target = cutmix(Planted(*torch.rand(3, generator=source).tolist(), size=32))
        covered.append(x[0, 0].mean().item())
        assert target[0, 1].item() == pytest.approx(covered[-1], abs=1e-7)
    # E(s − s²/4)² over s = √u; the standard error is below 0.01.
    assert sum(covered) / len(covered) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.03)


def test_partners_are_a_permutation_of_the_batch():
    values = torch.arange(6, dtype=torch.uint8)
    images = values.view(6, 1, 1, 1).expand(6, 3, 8, 8).contiguous()
    moved = set()
    for seed in range(8):
        x, target = cutmix(batch_of(images, values.long(), seed=seed, classes=6))
        pixels = (x * 255).round().long()
        partners = [int(image[image != own][0]) if (image != own).any() else own for own, image in enumerate(pixels)]
        for own, (image, other) in enumerate(zip(pixels, partners, strict=True)):
            share = (image == own).float().mean()
            expected = share * F.one_hot(torch.tensor(own), 6) + (1 - share) * F.one_hot(torch.tensor(other), 6)
            torch.testing.assert_close(target[own], expected.float(), rtol=0, atol=1e-6)
        moved.add(tuple(partners))
        assert len(set(partners)) == 6
    assert len(moved) > 4


@pytest.mark.parametrize("objective", [PgdAt(eps=0.0, cutmix=True), Trades(eps=0.0, cutmix=True)])
def test_without_a_ball_adversarial_training_on_mixed_images_is_their_cross_entropy(objective):
    images, labels, network = images_of(4, 8), torch.tensor([0, 1, 1, 0]), network_of()
    (loss,) = losses_of(objective, network, batch_of(images, labels, views=wide, seed=3, classes=2))
    x, target = cutmix(batch_of(images, labels, views=wide, seed=3, classes=2))
    assert (x != wide(images, None)).any()
    expected = -(target.double() * network_of()(x).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
