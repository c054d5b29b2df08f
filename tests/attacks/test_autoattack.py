"""The suite: official settings, contributions, stopping and going on."""

import pytest
import torch
from planted_models import Box, exact_distance, several_classes, small_network, spaced

from rushkit.attacks.apgd import APGD
from rushkit.attacks.autoattack import AutoAttack
from rushkit.errors import UsageError
from rushkit.smoothing import SmoothedClassifier


def test_standard_has_the_official_parts_and_settings():
    parts, notes = AutoAttack("linf", 8 / 255).parts("standard", 10)
    assert list(parts) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    ce, targeted = parts["apgd-ce"], parts["apgd-t"]
    assert (ce.loss, ce.steps, ce.restarts, ce.targeted) == ("ce", 100, 1, False)
    assert (targeted.loss, targeted.steps, targeted.n_targets, targeted.targeted) == ("dlr", 100, 9, True)
    fab, square = parts["fab-t"], parts["square"]
    assert (fab.steps, fab.restarts, fab.targeted, fab.n_targets) == (100, 1, True, 9)
    assert (square.queries, square.restarts) == (5000, 1)
    assert notes == ()


def test_in_l1_there_are_five_starts_and_five_targets():
    parts, _ = AutoAttack("l1", 12).parts("standard", 10)
    assert (parts["apgd-ce"].restarts, parts["apgd-t"].restarts, parts["apgd-t"].n_targets) == (5, 1, 5)
    assert (parts["fab-t"].n_targets, parts["square"].queries) == (9, 5000)
    assert {part.norm for part in parts.values()} == {"l1"}
    parts, _ = AutoAttack("l1", 12).parts("rand", 10)
    assert [(part.restarts, part.samples) for part in parts.values()] == [(1, 20), (1, 20)]


@pytest.mark.parametrize("effort", [2, 4])
def test_effort_multiplies_steps_and_queries(effort):
    parts, _ = AutoAttack("linf", 0.1, effort=effort).parts("standard", 10)
    assert [parts[name].steps for name in ("apgd-ce", "apgd-t", "fab-t")] == [100 * effort] * 3
    assert parts["square"].queries == 5000 * effort


def test_rand_has_the_official_parts_and_settings():
    parts, notes = AutoAttack("linf", 8 / 255).parts("rand", 10)
    assert list(parts) == ["apgd-ce", "apgd-dlr"]
    for attack in parts.values():
        assert isinstance(attack, APGD)
        assert (attack.steps, attack.samples, attack.targeted) == (100, 20, False)
    assert notes == ()


@pytest.mark.parametrize(
    "version, classes, loss",
    [("standard", 3, "margin"), ("standard", 4, "dlr"), ("rand", 2, "margin"), ("rand", 3, "dlr")],
)
def test_with_too_few_classes_the_margin_replaces_dlr_and_a_note_says_so(version, classes, loss):
    parts, notes = AutoAttack("linf", 0.1).parts(version, classes)
    second = list(parts.values())[1]
    assert second.loss == loss
    assert bool(notes) == (loss == "margin")


def test_every_part_runs_on_small_images():
    model, x, y, _ = spaced("l2", count=4, side=4)
    result = AutoAttack("l2", 1e-4, steps=3, queries=5).run(model, x, y)
    assert list(result.per_attack) == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]


def test_contributions_are_disjoint_and_add_up_to_what_is_broken():
    model, x, y, distance = several_classes(6, "linf")
    y = y.clone()
    y[0] = (y[0] + 1) % 6
    result = AutoAttack("linf", float(distance.median()), steps=20, queries=20).run(model, x, y)
    masks = torch.stack(list(result.per_attack.values()))
    assert list(result.per_attack) == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]
    assert (masks.sum(0) <= 1).all()
    assert torch.equal(masks.any(0), result.success)
    assert result.contributions["clean"] == 1
    assert torch.equal(result.x_adv[0], x[0])


@pytest.mark.parametrize("norm, eps", [("linf", 0.06), ("l1", 1.5)])
@pytest.mark.parametrize("smoothed", [False, True], ids=["standard", "rand"])
def test_stopped_after_any_part_and_taken_up_again_gives_the_same(smoothed, norm, eps):
    model, x, y = small_network(images=40)
    x, y = x[:12], y[:12]
    attacked = SmoothedClassifier(model, Box(0.1), samples=3, seed=0) if smoothed else model
    suite = AutoAttack(norm, eps, steps=4, queries=10)
    stored = []
    whole = suite.run_from(None, attacked, x, y, stored.append)
    assert stored[0].done == ("clean",)
    for progress in stored:
        again = suite.run_from(progress, attacked, x, y)
        assert torch.equal(again.x_adv, whole.x_adv)
        assert again.contributions == whole.contributions
        # A part that ran again would be counted again.
        assert again.image_backwards == whole.image_backwards


SMOOTHED = {"plain": (False, "standard"), "smoothed": (True, "standard"), "smoothed, rand": (True, "rand")}


@pytest.mark.parametrize("norm, eps", [("linf", 0.08), ("l2", 0.5), ("l1", 1.5)])
@pytest.mark.parametrize("label", SMOOTHED)
def test_an_image_fares_the_same_whoever_is_beside_it(label, norm, eps):
    """Alone, in a batch, and in a batch that passes the model in pieces; one of the five is wrong from the start."""
    smoothed, version = SMOOTHED[label]
    model, x, y = small_network(images=100)
    x, y = x[:5], y[:5].clone()
    y[3] = (y[3] + 1) % 5
    suite = AutoAttack(norm, eps, version, steps=3, queries=52, samples=20)

    def run(rows, chunk=None):
        attacked = SmoothedClassifier(model, Box(0.03), samples=20, chunk=chunk, seed=0) if smoothed else model
        return suite.run(attacked, x[rows], y[rows])

    whole, pieces = run(slice(None)), run(slice(None), chunk=7)
    alone = [run(slice(row, row + 1)) for row in range(5)]
    assert 0 < int(whole.success.sum()) < 5
    for others in (pieces.x_adv, torch.cat([one.x_adv for one in alone])):
        torch.testing.assert_close(others, whole.x_adv, atol=1e-5, rtol=0)
    assert torch.equal(torch.cat([one.success for one in alone]), whole.success)
    # No image is passed for another's sake, and the wrong one goes back at no part.
    assert sum(one.image_backwards for one in alone) == whole.image_backwards
    assert alone[3].image_backwards == 0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_linear_classes_are_broken_up_to_their_distance(norm):
    model, x, y, _ = several_classes(5, "l2", count=40)
    exact = exact_distance(model, x, y, norm)
    eps = float(exact.sort().values[[19, 20]].mean())
    suite = AutoAttack(norm, eps, steps=40, queries=20).run(model, x, y)
    assert torch.equal(suite.success, exact < eps)


def test_progress_of_other_images_is_refused():
    model, x, y, _ = spaced("linf", count=4)
    suite = AutoAttack("linf", 0.01, steps=2, queries=5)
    stored = []
    suite.run_from(None, model, x, y, stored.append)
    with pytest.raises(UsageError, match="of 4 images"):
        suite.run_from(stored[0], model, x[:3], y[:3])


def test_the_suite_breaks_what_any_single_attack_breaks():
    model, x, y = small_network(images=60)
    model.eval()
    for norm, eps, images in (("linf", 0.05, 60), ("l2", 0.4, 60), ("l1", 1.5, 10)):
        x, y = x[:images], y[:images]
        suite = AutoAttack(norm, eps, steps=30, queries=50).run(model, x, y)
        single = APGD(norm, eps, steps=30).run(model, x, y)
        assert suite.success.sum() >= single.success.sum()
