"""Races between versions of an image, on votes and softmaxes whose odds are known."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binom, norm

from rushkit.attacks.race import Judge, Panel, Runs, examine, race

PANEL = Panel.of(64, random=True, seed=3)


class Coins:
    """A model of two classes: an image's first pixel is the probability that a draw is not the label's, class 0.

    Draws are seeded as a victim's are; ``paired`` ones use the same random numbers for all images.
    """

    def __init__(self, paired=False):
        self.paired, self.asked = paired, 0

    def __call__(self, x, *, draw, samples):
        self.asked += samples * len(x)
        source = torch.Generator().manual_seed(draw if self.paired else draw + self.asked)
        uniform = torch.rand(samples, 1 if self.paired else len(x), generator=source, dtype=torch.float64)
        wrong = uniform < x[:, 0, 0, 0].double()
        return torch.stack([~wrong, wrong], dim=2).double() * 4


def images(chance, count=1):
    return torch.full((count, 1, 1, 1), chance, dtype=torch.float64)


def raced(challenger, incumbent, count=1, votes=64, paired=False):
    """Race ``count`` times; the incumbents have run no draws yet. -> the finish, the runs, passes an image."""
    judge, ask = Judge("majority", votes, random=True), Coins(paired)
    held = Runs.none(PANEL, images(0, count), 2)
    y, unsettled = torch.zeros(count, dtype=torch.int64), {judge: torch.ones(count, dtype=torch.bool)}
    runs, finish = race(ask, PANEL, y, images(challenger, count), {judge: (images(incumbent, count), held)}, unsettled)
    return finish[judge], runs, ask.asked / count


@pytest.mark.parametrize("worse, better", [(0.1, 0.4), (0.3, 0.6), (0.5, 0.8), (0.6, 0.9)])
@pytest.mark.parametrize("turned", [False, True])
def test_the_better_of_two_versions_wins_nearly_always(worse, better, turned):
    """Leads differ by 0.3: of 100 draws, 2.2 and more standard deviations of the difference of 2 x 100 coins.

    At most 5 % of races go wrong (2000 races; 3.1 % were seen at worst; a false alarm at 4 % has probability 0.02).
    """
    challenger, incumbent = (worse, better) if turned else (better, worse)
    finish, _, _ = raced(challenger, incumbent, count=2000)
    wrong = finish.better if turned else ~finish.better
    assert wrong.double().mean() < 0.05


def test_a_version_that_is_clearly_worse_leaves_after_one_stage():
    _, runs, _ = raced(0.35, 0.95, count=200)
    assert (runs.drawn == 16).double().mean() > 0.7


def test_where_the_label_is_certain_to_win_the_race_does_not_go_on():
    _, runs, _ = raced(0.02, 0.03, count=200)
    assert (runs.drawn == 16).double().mean() > 0.95


def test_at_one_draw_a_vote_every_label_counts_and_no_version_is_safe():
    _, runs, _ = raced(0.08, 0.03, count=200, votes=1)
    assert (runs.drawn > 16).double().mean() > 0.3


def test_a_lost_vote_is_confirmed_on_more_draws_before_an_image_leaves():
    finish, runs, _ = raced(0.72, 0.1, count=500)
    # The lead is 0.44 and the threshold 4 x 0.9 / 8 = 0.45: chance decides, mostly at the end.
    assert 0.2 < finish.lost.double().mean() < 0.8
    assert (runs.drawn[finish.lost] > 16).double().mean() > 0.7


def test_hardly_any_barely_lost_vote_counts_as_lost_early():
    """A lead of 0.2 loses 95 % of the votes of 64, and is no clear case: 16 to 64 draws seldom say so by chance."""
    finish, runs, _ = raced(0.6, 0.1, count=2000)
    assert (finish.lost & (runs.drawn < 100)).double().mean() < 0.02


def test_an_incumbent_keeps_its_draws():
    judge, ask = Judge("majority", 64, random=True), Coins(paired=True)
    y, unsettled = torch.zeros(1, dtype=torch.int64), {judge: torch.ones(1, dtype=torch.bool)}
    held = Runs.none(PANEL, images(0), 2)
    incumbents = {judge: (images(0.5), held)}
    race(ask, PANEL, y, images(0.5), incumbents, unsettled)
    assert int(held.drawn) == 16
    before = ask.asked
    race(ask, PANEL, y, images(0.5), incumbents, unsettled)
    assert ask.asked - before == 16


def test_equal_draws_end_a_race_at_once_and_the_surer_label_loses():
    judge = Judge("majority", 64, random=True)

    def ask(x, *, draw, samples):
        return torch.stack([x[:, 0, 0, 0], torch.zeros(len(x))], 1).expand(samples, -1, -1)

    y, unsettled = torch.zeros(2, dtype=torch.int64), {judge: torch.ones(2, dtype=torch.bool)}
    challenger = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    held = {judge: (torch.full((2, 1, 1, 1), 2.0), Runs.none(PANEL, challenger, 2))}
    runs, finish = race(ask, PANEL, y, challenger, held, unsettled)
    assert finish[judge].better.tolist() == [True, False]
    assert runs.drawn.tolist() == [16, 16]


@pytest.mark.parametrize("rule", ["majority", "mean"])
def test_a_draw_that_is_not_finite_speaks_for_the_label(rule):
    logits = torch.zeros(4, 1, 3)
    logits[:, 0, 1] = 5
    logits[0, 0, 2] = torch.nan
    leads = Judge(rule, 64, random=True).leads(logits.log_softmax(dim=2), torch.zeros(1, dtype=torch.int64))
    assert leads[0] == -1
    assert (leads[1:] > 0).all()


def test_a_lead_is_that_of_the_class_that_comes_second_over_all_draws():
    """Six draws for class 1, five for class 2, nine for the label: class 1 is the rival, and loses by 3 of 20."""
    winners = torch.tensor([1] * 6 + [2] * 5 + [0] * 9)
    log_prob = torch.nn.functional.one_hot(winners, 3).double().mul(9).log_softmax(dim=1)[:, None]
    y = torch.zeros(1, dtype=torch.int64)
    assert Judge("majority", 64, random=True).leads(log_prob, y).mean() == pytest.approx(-3 / 20)
    # At one draw a vote, what is not the label is wrong: eleven of twenty.
    assert Judge("majority", 1, random=True).leads(log_prob, y).mean() == pytest.approx(2 / 20)


def test_a_vote_is_as_probably_right_as_its_draws_say():
    """At m = 1 the label's share; without noise 0 or 1; else close to the binomial distribution."""

    def leads(wrong, draws):
        return torch.where(torch.arange(draws) < wrong, 1.0, -1.0).double()[:, None]

    def right(votes, wrong, draws, random=True):
        return float(Judge("majority", votes, random).right(leads(wrong, draws)))

    assert right(1, 3, 16) == 13 / 16
    assert [right(64, wrong, 1, random=False) for wrong in (0, 1)] == [1.0, 0.0]
    assert right(64, 50, 100) == 0.5
    for votes, wrong in ((9, 10), (9, 40), (64, 40), (64, 47), (64, 55), (501, 48)):
        exact = binom.sf(votes / 2, votes, 1 - wrong / 100) + binom.pmf(votes / 2, votes, 1 - wrong / 100) / 2
        assert right(votes, wrong, 100) == pytest.approx(exact, abs=0.02)


def test_draws_that_do_not_differ_leave_a_doubt_of_one_in_their_number():
    leads = torch.full((16, 1), -0.1, dtype=torch.float64)
    assert float(Judge("mean", 64, random=True).right(leads)) == pytest.approx(norm.cdf(0.1 * 8 * 4))


def test_the_panel_is_as_large_as_a_vote_and_one_draw_says_all_without_noise():
    assert Panel.of(64, True, 0).ends == (16, 32, 64, 100)
    assert Panel.of(501, True, 0).ends == (16, 32, 64, 501)
    assert Panel.of(64, False, 0).ends == (1,)
    seeds = [draw for draw, _, _ in Panel.of(64, True, 0).stages()]
    assert len(set(seeds)) == 4


def test_clean_images_are_examined_no_longer_than_they_are_in_doubt():
    judge, x = Judge("majority", 64, random=True), torch.cat([images(p, 100) for p in (0.02, 0.7, 1.0)])
    runs = examine(Coins(), PANEL, x, torch.zeros(300, dtype=torch.int64), [judge])
    sure, doubtful, lost = runs.drawn.view(3, 100)
    assert (sure == 16).all()
    assert (doubtful > 16).double().mean() > 0.7
    assert (lost == 16).all()
