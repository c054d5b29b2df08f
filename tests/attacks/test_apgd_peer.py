"""PGD, PGD-l2 and APGD agree with torchattacks' on a deterministic model and the same budget."""

import pytest
import torch
from planted_models import accuracy, small_network

from rushkit.attacks.apgd import APGD
from rushkit.attacks.pgd import PGD

torchattacks = pytest.importorskip("torchattacks")


@pytest.fixture(scope="module")
def trained():
    model, x, y = small_network(images=300)
    return model.eval(), x, y


@pytest.mark.parametrize("eps", [0.04, 0.08])
def test_pgd_from_the_image_takes_the_same_steps(trained, eps):
    model, x, y = trained
    options = {"steps": 20, "step_size": eps / 8, "random_start": False, "best": "last", "loss": "ce"}
    ours = PGD("linf", eps, **options)(model, x, y)
    theirs = torchattacks.PGD(model, eps=eps, alpha=eps / 8, steps=20, random_start=False)(x, y)
    # Signs of gradients that are equal up to rounding may differ in a few pixels.
    assert (ours - theirs).abs().gt(1e-5).float().mean() < 1e-3


@pytest.mark.parametrize("eps", [0.2, 0.5])
def test_pgd_l2_from_the_image_takes_the_same_steps(trained, eps):
    """Where the box does not bind the projections are the same."""
    model, x, y = trained
    x = 0.25 + x / 2
    options = {"steps": 20, "step_size": eps / 8, "random_start": False, "best": "last", "loss": "ce"}
    ours = PGD("l2", eps, **options)(model, x, y)
    theirs = torchattacks.PGDL2(model, eps=eps, alpha=eps / 8, steps=20, random_start=False)(x, y)
    inside = ((theirs > 0) & (theirs < 1)).flatten(1).all(1)
    assert inside.float().mean() > 0.9
    torch.testing.assert_close(ours[inside], theirs[inside], atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm, eps", [("linf", 0.08), ("l2", 0.6)])
def test_pgd_with_random_starts_reaches_the_same_accuracy(trained, norm, eps):
    model, x, y = trained
    peer = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
    ours, theirs = [], []
    for seed in range(3):
        attack = PGD(norm, eps, steps=20, step_size=eps / 8, best="last", loss="ce", seed=seed)
        ours.append(accuracy(model, attack(model, x, y), y))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            theirs.append(accuracy(model, peer(model, eps=eps, alpha=eps / 8, steps=20)(x, y), y))
    assert 0 < sum(theirs) < 3 * len(x)
    assert abs(sum(ours) - sum(theirs)) / 3 <= 0.01 * len(x)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("norm, eps", [("linf", 0.08), ("l2", 0.6)])
def test_apgd_of_100_steps_reaches_the_same_accuracy(trained, norm, eps, loss):
    model, x, y = trained
    ours, theirs = [], []
    for seed in range(3):
        ours.append(accuracy(model, APGD(norm, eps, loss=loss, seed=seed)(model, x, y), y))
        with torch.random.fork_rng():
            peer = torchattacks.APGD(model, norm=norm.capitalize(), eps=eps, steps=100, loss=loss, seed=seed)
            theirs.append(accuracy(model, peer(x, y), y))
    assert 0 < sum(theirs) < 3 * len(x)
    # Random starts differ, and with them a few images of 300.
    assert abs(sum(ours) - sum(theirs)) / 3 <= 0.02 * len(x)


class Peak(torch.nn.Module):
    """The wrong class is likeliest, but still not likely, at brightness 0.5317 in every pixel."""

    def forward(self, x):
        near = -(x.flatten(1) - 0.5317).abs().sum(1) - 1
        return torch.stack([torch.zeros_like(near), near], dim=1)


@pytest.mark.parametrize("norm, eps", [("linf", 0.1), ("l2", 0.3)])
def test_apgd_halves_its_step_until_it_sits_on_a_peak(norm, eps):
    x = torch.full((3, 1, 2, 2), 0.5)
    y = torch.zeros(3, dtype=torch.int64)
    x_adv = APGD(norm, eps)(Peak(), x, y)
    assert (x_adv - 0.5317).abs().max() < 0.01 * eps


def test_targeted_apgd_returns_its_best_where_nothing_breaks(trained):
    """Losses towards different targets, and that of the image itself, do not compare; margins do."""
    model, x, y = trained
    with torch.no_grad():
        right = model(x).argmax(1) == y
    x, y = x[right][:20], y[right][:20]
    result = APGD("linf", 0.003, steps=10, loss="ce", targeted=True).run(model, x, y)
    assert not result.success.any()
    assert (result.x_adv != x).flatten(1).any(1).all()
