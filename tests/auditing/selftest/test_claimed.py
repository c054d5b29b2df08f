from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.claimed import adaptive, naive

EPS = 0.1


def case(naive="fresh", norm="linf", eps=EPS) -> Case:
    return Case("toy", "broken", norm, eps, build=lambda ground: None, naive=naive)


def greys(*values: float) -> tuple[Tensor, Tensor]:
    """One image of 3x4x4 equal pixels for each value, all of class 1."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone(), torch.ones(
        len(values), dtype=torch.int64
    )


class Brighter(nn.Module):
    """Class 1 above a mean of .5, class 0 below; with a band of rejection (class 10) around it."""

    def __init__(self, band: float = 0.0):
        super().__init__()
        self.band = band
        self.drawn: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.drawn.append(torch.rand(1).item())
        lead = 20 * (x.mean((1, 2, 3)) - 0.5)
        logits = torch.stack([-lead, lead, *[torch.full_like(lead, -30.0)] * 9], dim=1)
        logits[:, 10] = torch.where(lead.detach().abs() < 20 * self.band, 30.0, -30.0)
        return logits


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Brighter()(torch.full_like(x, 0.9).detach())


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Brighter()((x * 20).round() / 20)


def l2_eps(linf: float) -> float:
    return linf * 48**0.5


@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", l2_eps(EPS)), ("l1", EPS * 48)])
def test_on_a_linear_model_exactly_the_images_within_reach_of_the_border_are_lost(norm, eps):
    x, y = greys(0.45, 0.51, 0.55, 0.59, 0.61, 0.7, 0.9, 0.99)
    assert naive(case(norm=norm, eps=eps), Planted(Brighter()), x, y) == 4 / 8
    assert adaptive(case(norm=norm, eps=eps), Planted(Brighter(), stand_in=Brighter()), x, y) == 4 / 8


def test_a_model_without_a_slope_keeps_what_a_random_start_leaves():
    x, y = greys(0.55, 0.9)
    assert naive(case(), Planted(Constant()), x, y) == 1
    assert naive(case(), Planted(Rounded()), x, y) == 1


def test_the_stand_in_gives_the_slope_and_the_model_the_judgement():
    x, y = greys(0.55, 0.9)
    assert adaptive(case(), Planted(Rounded(), stand_in=Brighter()), x, y) == 1 / 2
    assert adaptive(case(), Planted(Constant(), stand_in=Brighter()), x, y) == 1
    assert adaptive(case(), Planted(Rounded()), x, y) is None


def test_an_image_that_is_right_at_the_last_iterate_alone_is_lost():
    class Below(nn.Module):
        """Wrong in a narrow band that the attack passes through."""

        def forward(self, x: Tensor) -> Tensor:
            mean = x.mean((1, 2, 3))
            lead = torch.where((mean > 0.52) & (mean < 0.53), -1.0, 1.0)
            return torch.stack([-lead, lead], dim=1)

    x, y = greys(0.6)
    assert adaptive(case(), Planted(Below(), stand_in=Brighter()), x, y) == 0


def test_an_attack_that_stops_at_the_first_other_answer_stops_at_the_rejection():
    x, y = greys(0.58, 0.9)
    rejects = Planted(Brighter(band=0.02), stand_in=Brighter())
    assert naive(case("rejecting"), rejects, x, y) == 1
    assert naive(case("fresh"), rejects, x, y) == 1 / 2
    assert adaptive(case("rejecting"), rejects, x, y) == 1 / 2


@pytest.mark.parametrize(("kind", "draws"), [("held", 2), ("fresh", 41)])
def test_one_draw_is_held_for_the_whole_attack_or_none_is(kind, draws):
    model = Brighter()
    x, y = greys(0.58)
    naive(case(kind), Planted(model), x, y)
    assert len(model.drawn) == 41
    assert len(set(model.drawn)) == draws


@pytest.mark.parametrize("kind", ["fresh", "held", "rejecting"])
def test_the_global_random_state_is_left_as_it_was(kind):
    x, y = greys(0.58, 0.9)
    planted = Planted(Brighter(), stand_in=Brighter())
    before = torch.random.get_rng_state()
    naive(case(kind), planted, x, y)
    adaptive(case(kind), planted, x, y)
    assert torch.equal(torch.random.get_rng_state(), before)


class Flickering(nn.Module):
    """Wrong in one draw of ten, whatever the image."""

    def forward(self, x: Tensor) -> Tensor:
        lead = torch.where(torch.rand(len(x)) < 0.1, -1.0, 1.0) + 0 * x.mean((1, 2, 3))
        return torch.stack([-lead, lead], dim=1)


def test_a_random_model_is_not_asked_again_and_again_until_it_errs():
    x, y = greys(*[0.9] * 1000)
    left = adaptive(case(), Planted(Flickering(), stand_in=Flickering()), x, y)
    # Five standard deviations of 1000 draws: one seed in a million and a half fails.
    assert left == pytest.approx(0.9, abs=5 * (0.9 * 0.1 / 1000) ** 0.5)
