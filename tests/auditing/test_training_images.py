"""RK126: test images that withstand an attack which training images do not, and where training images come from."""

from __future__ import annotations

import pytest
import torch
from linear_models import prototypes
from scipy.stats import hypergeom
from tiny_runs import checkpoint_of, finetuned, folder_of_images
from torch import nn

from rushkit import registries
from rushkit.auditing.attacks import Attacks
from rushkit.auditing.audit import audit, audit_settings
from rushkit.auditing.checks.checklist import check_all
from rushkit.auditing.checks.subjects import better_on_test
from rushkit.auditing.given import Given
from rushkit.auditing.measure import Measured, Point, measure
from rushkit.auditing.plan import Settings, plan
from rushkit.auditing.training_images import training_images
from rushkit.data.memory import limit_indices
from rushkit.setup.components import to_float
from rushkit.setup.subject import Subject
from rushkit.smoothing import SmoothedClassifier

SETTINGS = Settings("linf", 0.05, steps=8, eot=4, queries=5, planted=1)


def point(label, right, images):
    return Point(label, 0.0, tuple(float(image < right) for image in range(images)))


def judged(test, training):
    measured = Measured(SETTINGS)
    measured.points["losses"] = [point("nll", 0, test[1]), point("margin", *test)]
    measured.points["training"] = [point("training images", *training)]
    return better_on_test(measured)


@pytest.mark.parametrize(
    "test, training, status",
    [
        ((64, 64), (0, 64), "fail"),
        ((0, 64), (64, 64), "pass"),
        # 19 points are too few to fail, however sure they are.
        ((690, 1000), (500, 1000), "pass"),
        ((710, 1000), (500, 1000), "fail"),
        # 25 points of 40 images can be chance: p = 0.02.
        ((30, 40), (20, 40), "pass"),
        ((32, 32), (0, 32), "fail"),
    ],
)
def test_a_gap_fails_where_it_is_large_and_sure(test, training, status):
    verdict = judged(test, training)
    assert verdict.status == status
    # Fisher's test: of all that are right, so many or more are test images.
    right, total = test[0] + training[0], test[1] + training[1]
    assert verdict.figures["p"] == pytest.approx(hypergeom.sf(test[0] - 1, total, right, test[1]), rel=1e-9)
    assert verdict.figures["test"] == test[0] / test[1]
    assert verdict.figures["training"] == training[0] / training[1]


@pytest.mark.parametrize("test, training", [((31, 31), (0, 64)), ((64, 64), (0, 31)), ((64, 64), (0, 0))])
def test_few_images_are_too_few(test, training):
    verdict = judged(test, training)
    assert verdict.status == "skipped"
    assert "too few" in verdict.says


class Leak(nn.Module):
    """Gives the label of the nearest known image within reach, and a linear model's answer to the rest."""

    def __init__(self, model, x, y, reach):
        super().__init__()
        self.model, self.known, self.labels, self.reach = model, x.flatten(1), y, reach

    def forward(self, x):
        logits = self.model(x)
        distances = (x.detach().flatten(1)[:, None] - self.known).abs().amax(dim=2)
        hot = nn.functional.one_hot(self.labels[distances.argmin(dim=1)], logits.shape[1])
        return torch.where(distances.amin(dim=1)[:, None] <= self.reach, 5.0 * hot + 0.02 * logits, logits)


def others(model, count=60):
    """Other images of the same kind, with the labels that the model gives them."""
    x = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(5)) * 0.6 + 0.2
    return x, model(x).argmax(dim=1)


def smoothed(model, noise="none", m=1):
    options = {} if noise == "none" else {"scale": 0.02}
    return SmoothedClassifier(model, registries.noises.create(noise, **options), m, seed=0)


def check_of(measured):
    return {check.code: check for check in check_all(measured)}["RK126"]


def test_labels_that_leak_are_caught_and_memorised_training_images_hide_them():
    g, x, y = prototypes()
    training, ball = others(g.model), Settings("linf", 0.1, steps=8, queries=5, planted=1)
    leak = Leak(g.model, x, y, 0.11)
    assert check_of(measure(smoothed(leak), x, y, ball, Given(training=training))).status == "fail"
    assert check_of(measure(smoothed(g.model), x, y, ball, Given(training=training))).status == "pass"
    both = Leak(g.model, torch.cat([x, training[0]]), torch.cat([y, training[1]]), 0.11)
    assert check_of(measure(smoothed(both), x, y, ball, Given(training=training))).status == "pass"


def test_the_training_images_that_are_right_are_attacked_as_the_test_images_are():
    """A linear model's answer to the margin attack is known: right where the nearest boundary is beyond eps."""
    g, _, _ = prototypes()
    x, y = others(g.model)
    wrong = y.clone()
    wrong[:7] = (y[:7] + 1) % 3
    logits, weight = g.model(x), g.model[1].weight
    gaps = logits.gather(1, y[:, None]) - logits
    slopes = (weight[y][:, None] - weight).abs().sum(dim=2)
    stands = ((gaps / slopes).masked_fill(slopes == 0, torch.inf).amin(dim=1) > SETTINGS.eps)[7:]
    attacks = Attacks(smoothed(g.model), x[:1], y[:1], SETTINGS, Given(training=(x, wrong)))
    (training,) = [each for each in plan(SETTINGS, 1, 3, x.shape, True, training=60) if each.kind == "training"]
    outcome, images = attacks.measure(training)
    right = torch.tensor(outcome.share) == 1
    assert (right & stands).sum() == stands.sum()
    # The nearest boundary need not be that of the class that is second at first.
    assert (right & ~stands).sum() <= 3
    assert 5 < stands.sum() < 48
    # They are no versions of the images that are audited.
    assert images is None
    assert outcome.excess <= 0


@pytest.mark.parametrize("noise, m", [("none", 1), ("uniform", 3)])
def test_the_passes_on_training_images_are_announced(noise, m):
    g, x, y = prototypes()
    counted = smoothed(g.model, noise, m)
    bare, whole = (measure(counted, x, y, SETTINGS, given) for given in (Given(), Given(training=others(g.model))))
    draws = 1 if noise == "none" else SETTINGS.eot
    votes = 1 if noise == "none" else 63
    # Sixteen gradients' passes, the clean vote, the score, and what the attack itself asks.
    most = 60 * 2 * SETTINGS.steps * draws + 1 + 60 + 2 * 60 * votes
    assert whole.announced - bare.announced == most
    assert 0.8 * most < whole.passes - bare.passes <= most
    assert {**vars(whole), "points": 0} | COUNTS == {**vars(bare), "points": 0} | COUNTS


def test_as_many_training_images_are_attacked_as_there_are_images():
    g, x, y = prototypes()
    images, labels = others(g.model, count=200)
    given = Given(training=(images, labels)).limited(40)
    chosen = limit_indices(200, 40)
    assert torch.equal(given.training[0], images[chosen])
    assert torch.equal(given.training[1], labels[chosen])
    measured = measure(smoothed(g.model), x[:40], y[:40], SETTINGS, Given(training=(images, labels)))
    assert len(measured.points["training"][0].share) == 40


COUNTS = {"passes": 0, "announced": 0, "why_no_training": ""}


@pytest.fixture
def model(tiny):
    """A recipe, and a classifier fine-tuned on its training split."""
    recipe = tiny("finetune.freeze=none", "finetune.epochs=1")
    return recipe, checkpoint_of(finetuned(recipe, None))


def at_hand(recipe, source, audited="test", limit=5):
    subject = Subject.open(recipe, source, split=audited, limit=limit)
    return training_images(recipe, source, subject, audited)


def test_as_many_images_come_from_those_that_were_trained_on(model):
    found = at_hand(*model)
    trained_on = Subject.open(*model, split="train")
    assert torch.equal(found.images, to_float(trained_on.split.images[:5]))
    assert torch.equal(found.labels, trained_on.labels[:5])
    assert found.why_none == ""
    assert found.fingerprint == trained_on.take(torch.arange(5)).fingerprint()


def test_training_images_are_not_compared_with_themselves(model):
    assert "training images themselves" in at_hand(*model, audited="train").why_none


def test_images_of_another_data_set_were_not_trained_on(model, tiny):
    recipe, source = model
    subject = Subject.open(recipe, source, split="test", limit=5)
    elsewhere = recipe.model_copy(update={"data": recipe.data.model_copy(update={"name": "other"})})
    assert training_images(elsewhere, source, subject, "test").why_none == (
        "the model was trained on digits, and other is audited"
    )


def test_missing_training_files_do_not_end_an_audit(tiny, tmp_path):
    folder = folder_of_images(tmp_path / "pictures", size=8)
    of_folder = ("data.name=folder", f"data.path={folder}", "data.image_size=8", "data.limit=0")
    recipe = tiny(*of_folder, "finetune.freeze=none", "finetune.epochs=1")
    source = checkpoint_of(finetuned(recipe, None))
    (folder / "train").rename(folder / "elsewhere")
    budgets = audit_settings("linf", 0.05, seed=0, steps=2, eot=1, queries=2, planted=1)
    check = {check.code: check for check in audit(recipe, source, budgets, images=8, samples=1).checks}["RK126"]
    assert check.status == "skipped"
    assert "train" in check.says
