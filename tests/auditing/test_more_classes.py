"""Models with more outputs than the data has classes, which may reject an image: RK128."""

from __future__ import annotations

import pytest
import torch
from linear_models import layer
from torch import nn

from rushkit import registries
from rushkit.auditing.checks.checklist import check_all
from rushkit.auditing.given import Given
from rushkit.auditing.measure import measure
from rushkit.auditing.plan import Settings
from rushkit.auditing.rejections import answers, of_real_classes
from rushkit.smoothing import SmoothedClassifier

SIDE, CLASSES, IMAGES, GRID = 6, 3, 48, 16
SETTINGS = Settings("linf", 0.05, steps=4, eot=2, queries=10, planted=2)
NOISES = {"none": {}, "uniform": {"scale": 0.1}}
both_noises = pytest.mark.parametrize("noise", NOISES)


class Classes(nn.Module):
    """Linear logits of three classes, counted forwards and backwards."""

    def __init__(self):
        super().__init__()
        self.layer = layer(3 * SIDE * SIDE, CLASSES)
        self.passes = 0

    def forward(self, x):
        self.passes += len(x)
        logits = self.layer((x - 0.5).flatten(1))
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self.__dict__.update(passes=self.passes + len(gradient)))
        return logits


class Rejecting(Classes):
    """One more logit: as ``reject`` maps images and logits to it."""

    def __init__(self, reject):
        super().__init__()
        self.reject = reject

    def forward(self, x):
        logits = super().forward(x)
        return torch.cat([logits, self.reject(x, logits)[:, None]], 1)


def never(x, logits):
    return logits.amin(1) - 1


def what_moved(x, logits):
    """Rejects every image with a pixel off the grid of the clean images."""
    off = (x * GRID - (x * GRID).round()).abs().flatten(1).amax(1) > 1e-3
    return logits.amax(1) + torch.where(off, 1.0, -1.0)


def bright_corner(x, logits):
    return logits.amax(1) + torch.where(x[:, 0, 0, 0] > 0.5, 1.0, -1.0)


def images():
    source = torch.Generator().manual_seed(4)
    x = torch.randint(1, GRID, (IMAGES, 3, SIDE, SIDE), generator=source) / GRID
    return x, Classes()(x).argmax(1)


def smoothed(model, noise="none", samples=4):
    made = registries.noises.create(noise, **NOISES[noise])
    return SmoothedClassifier(model.eval().requires_grad_(False), made, samples, seed=0)


def audited(reject, noise="none", classes=CLASSES):
    x, y = images()
    model = Classes() if reject is None else Rejecting(reject)
    measured = measure(smoothed(model, noise), x, y, SETTINGS, Given(classes=classes))
    return measured, {check.code: check for check in check_all(measured)}, model


@both_noises
def test_more_outputs_than_classes_fail_and_all_else_is_of_the_classes_alone(noise):
    measured, checks, _ = audited(never, noise)
    plain, of_plain, _ = audited(None, noise)
    assert checks["RK128"].status == "fail"
    assert checks["RK128"].figures["outputs"] == CLASSES + 1
    assert of_plain["RK128"].status == "pass"
    assert (measured.classes, measured.attacked) == (CLASSES, plain.attacked)
    assert measured.points == plain.points
    assert measured.probes == plain.probes
    assert measured.planted == plain.planted
    assert {code: check.status for code, check in checks.items() if code != "RK128"} == {
        code: check.status for code, check in of_plain.items() if code != "RK128"
    }


@both_noises
def test_a_model_that_never_rejects_accepts_whatever_it_has_wrong(noise):
    measured, checks, _ = audited(never, noise)
    figures = checks["RK128"].figures
    assert figures["clean_rejected"] == figures["worst_rejected"] == 0
    assert figures["clean_accuracy"] == pytest.approx(measured.clean.accuracy)
    assert figures["worst_accuracy"] == pytest.approx(measured.strongest.accuracy)
    assert figures["worst_accepted_wrong"] == pytest.approx(1 - measured.strongest.accuracy)
    assert 0 < measured.strongest.accuracy < 1


def test_a_model_that_rejects_what_was_moved_accepts_nothing_wrong():
    _, checks, _ = audited(what_moved)
    figures = checks["RK128"].figures
    assert (figures["clean_rejected"], figures["clean_accuracy"]) == (0, 1)
    assert figures["worst_accepted_wrong"] == 0
    assert figures["worst_rejected"] > 0.9


def test_a_rejected_clean_image_counts_as_wrong_and_is_attacked_none_the_less():
    x, _ = images()
    measured, checks, _ = audited(bright_corner)
    share = float((x[:, 0, 0, 0] > 0.5).double().mean())
    assert 0.2 < share < 0.8
    assert checks["RK128"].figures["clean_rejected"] == pytest.approx(share)
    assert checks["RK128"].figures["clean_accuracy"] == pytest.approx(1 - share)
    assert len(measured.attacked) == IMAGES


def test_without_the_number_of_classes_there_is_nothing_to_compare():
    measured, checks, _ = audited(never, classes=0)
    assert measured.classes == CLASSES + 1
    assert checks["RK128"].status == "skipped"


@both_noises
@pytest.mark.parametrize("reject", [None, never])
def test_the_passes_of_the_whole_model_are_announced_and_counted(noise, reject):
    measured, _, model = audited(reject, noise)
    assert measured.passes == model.passes
    assert 0.8 <= measured.passes / measured.announced <= 1


@both_noises
def test_what_the_whole_model_answers_is_announced_exactly(noise):
    """All else is the same, so the passes made and those announced grow alike."""
    rejecting, plain = (audited(reject, noise)[0] for reject in (never, None))
    assert rejecting.announced - plain.announced == rejecting.passes - plain.passes > 0


def test_a_cut_graph_and_an_audit_with_nothing_to_attack_still_count_outputs():
    x, y = images()

    class Cut(Rejecting):
        def forward(self, x):
            return super().forward(x.detach())

    for model, labels in ((Cut(never), y), (Rejecting(never), (y + 1) % CLASSES)):
        checks = check_all(measure(smoothed(model), x, labels, SETTINGS, Given(classes=CLASSES)))
        assert {check.code: check.status for check in checks}["RK128"] == "fail"


class Softmax(Rejecting):
    def forward(self, x):
        return super().forward(x).softmax(1)


def test_probabilities_sum_to_1_with_that_of_a_rejection():
    x, y = images()
    checks = check_all(measure(smoothed(Softmax(never)), x, y, SETTINGS, Given(classes=CLASSES)))
    assert {check.code: check.status for check in checks}["RK132"] == "warn"


def test_the_three_shares_sum_to_1_and_every_vote_counts():
    x, y = images()
    g = of_real_classes(smoothed(Rejecting(bright_corner), "uniform", samples=1), CLASSES)
    found = answers(g, x, y, 20, seed=1, label="clean")
    assert found.right + found.rejected + found.wrong == pytest.approx(1)
    # Noise of 0.1 takes the corner across a half in some of the draws.
    noisy = (x[:, 0, 0, 0] - 0.5).abs() < 0.1
    assert 0 < float(noisy.double().mean()) < 1
    # 20 votes on each of 7 images that are open: nine standard errors, which one seed in 10^18 exceeds.
    assert found.rejected == pytest.approx(float(((x[:, 0, 0, 0] - 0.4) / 0.2).clamp(0, 1).mean()), abs=0.05)
    assert g.image_forwards == 20 * IMAGES
