"""A model that predicts from a single draw (m = 1): an image that loses a vote of many is still right in part."""

import pytest
import torch
from torch import nn

from rushkit import attacks
from rushkit.attacks.race import Judge
from rushkit.attacks.victim import under_attack
from rushkit.noises.uniform import Uniform
from rushkit.smoothing import SmoothedClassifier


class Brighter(nn.Module):
    """Class 1 where the first pixel is above one half."""

    def forward(self, x):
        first = 10 * (x[:, 0, 0, 0] - 0.5)
        return torch.stack([-first, first, torch.full_like(first, -20.0)], dim=1)


@pytest.mark.parametrize("name", ["pgd", "apgd", "autoattack"])
def test_an_image_that_loses_the_vote_of_many_is_attacked_until_no_draw_is_right(name):
    # Under U(-0.3, 0.3) class 1 has 30 % of the draws at 0.38, and none from 0.2 down, which eps 0.2 reaches.
    x, y = torch.full((4, 3, 8, 8), 0.38), torch.ones(4, dtype=torch.int64)
    g = SmoothedClassifier(Brighter(), Uniform(scale=0.3), samples=1, seed=0)
    x_adv = attacks.create(name, norm="linf", eps=0.2, samples=20, steps=10)(g, x, y)
    assert (x_adv[:, 0, 0, 0] <= 0.2 + 1e-6).all()


@pytest.mark.parametrize(("samples", "kept"), [(1, 1), (64, 0)])
def test_a_single_draw_is_lowest_where_the_label_is_rarest_and_a_vote_where_a_rival_leads(samples, kept):
    two_rivals, many_rivals = [45, 55, 0, 0, 0], [30, 18, 18, 17, 17]
    winners = torch.stack([torch.arange(5).repeat_interleave(torch.tensor(v)) for v in (two_rivals, many_rivals)], 1)
    log_prob = nn.functional.one_hot(winners, 5).double().mul(9).log_softmax(dim=2)
    leads = Judge("majority", samples, random=True).leads(log_prob, torch.zeros(2, dtype=torch.int64))
    assert leads.mean(dim=0).argmax().item() == kept


@pytest.mark.parametrize(("samples", "better"), [(1, 1), (64, 0)])
def test_inside_an_attack_iterates_are_compared_in_the_same_way(samples, better):
    # Ten draws of two iterates: the label has 4 and one rival 6; the label has 3 and no rival more than 2.
    said = torch.tensor([[0] * 4 + [1] * 6, [0] * 3 + [1] * 2 + [2] * 2 + [3] * 2 + [4]])
    logits = nn.functional.one_hot(said.T, 5).float()
    x, y = torch.full((2, 3, 8, 8), 0.5), torch.zeros(2, dtype=torch.int64)
    g = SmoothedClassifier(Brighter(), Uniform(scale=0.3), samples=samples, seed=0)
    with under_attack(g, x, seed=0) as victim:
        assert victim.panel_margin(logits, y).argmax().item() == better
