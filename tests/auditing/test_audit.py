"""The audit lets an honest model pass and catches every planted fake."""

from __future__ import annotations

import json

import pytest
import torch
from linear_models import layer, prototypes
from torch import nn

from rushkit import registries
from rushkit.auditing.attacks import Attacks
from rushkit.auditing.checks.checklist import CHECKS, check_all
from rushkit.auditing.given import Given
from rushkit.auditing.measure import measure
from rushkit.auditing.plan import Settings, plan
from rushkit.errors import UsageError
from rushkit.results.notes import Check
from rushkit.smoothing import SmoothedClassifier

SIDE, CLASSES, IMAGES = 6, 4, 40
# Without training images, a claim and the number of classes.
NOT_ASKED = ["RK126", "RK127", "RK128"]
SETTINGS = Settings("linf", 0.1, steps=12, eot=8, queries=150, planted=4)


def blobs(count, seed):
    """Four classes of noisy patches. -> images in [0, 1], labels."""
    source = torch.Generator().manual_seed(seed)
    # Patches, not single pixels: the squares of a black-box attack must have a chance.
    patches = 0.3 + 0.4 * torch.rand(CLASSES, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    prototypes = patches.repeat_interleave(SIDE // 2, 2).repeat_interleave(SIDE // 2, 3)
    y = torch.randint(CLASSES, (count,), generator=source)
    x = prototypes[y] + 0.12 * torch.randn(count, 3, SIDE, SIDE, generator=source)
    return x.clamp(0, 1), y


class Honest(nn.Module):
    """A small network, trained on noisy images."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), layer(3 * SIDE * SIDE, 24), nn.Tanh())
        self.head = layer(24, CLASSES)
        with torch.no_grad():
            self.features[1].weight.mul_(0.05)
            self.head.weight.mul_(0.05)

    def forward(self, x):
        return self.head(self.features(x - 0.5))


def noise():
    return registries.noises.create("gaussian", scale=0.1)


@pytest.fixture(scope="module")
def honest():
    """Trained in a fraction of a second."""
    model = Honest().requires_grad_(True)
    x, y = blobs(400, seed=2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    source = torch.Generator().manual_seed(0)
    for _ in range(60):
        optimizer.zero_grad()
        noisy = x + 0.1 * torch.randn(x.shape, generator=source)
        nn.functional.cross_entropy(model(noisy), y).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def audited(model, settings=SETTINGS, samples=8, images=IMAGES, features=None):
    """-> {code: Check}."""
    g = SmoothedClassifier(model, noise(), samples, seed=0)
    x, y = blobs(images, seed=3)
    found = measure(g, x, y, settings, Given(features=features))
    return {check.code: check for check in check_all(found)}


def failed(checks):
    return {code for code, check in checks.items() if check.status == "fail"}


def test_an_honest_model_passes(honest):
    checks = audited(honest, features=lambda x: honest.features(x - 0.5))
    assert failed(checks) == set()
    assert [check.code for check in checks.values() if check.status == "skipped"] == NOT_ASKED
    assert sum(check.status == "pass" for check in checks.values()) >= len(checks) - 3


class Scaled(nn.Module):
    """The honest model's logits, times 1e5."""

    def __init__(self, honest):
        super().__init__()
        self.honest = honest

    def forward(self, x):
        return 1e5 * self.honest(x)


class Rounded(nn.Module):
    """The honest model on rounded pixels: the gradient of rounding is zero."""

    def __init__(self, honest):
        super().__init__()
        self.honest = honest

    def forward(self, x):
        return self.honest((16 * x).round() / 16)


class Shattered(nn.Module):
    """The honest model with a fine ripple, whose slope hides the true one; noise makes its phase random."""

    def __init__(self, honest):
        super().__init__()
        self.honest = honest
        self.register_buffer("ripple", torch.arange(CLASSES) * 1.7)

    def forward(self, x):
        return self.honest(x) + 0.3 * torch.sin(2000 * x.flatten(1).sum(1, keepdim=True) + self.ripple)


class Sometimes(nn.Module):
    """The honest model, but NaN where an image is bright."""

    def __init__(self, honest, bright):
        super().__init__()
        self.honest, self.bright = honest, bright

    def forward(self, x):
        logits = self.honest(x)
        return torch.where(x.mean(dim=(1, 2, 3))[:, None] > self.bright, torch.nan, logits)


class Detached(nn.Module):
    """The honest model without any gradient."""

    def __init__(self, honest):
        super().__init__()
        self.honest = honest

    def forward(self, x):
        return self.honest(x.detach())


def test_scaled_logits_are_caught_as_saturation(honest):
    checks = audited(Scaled(honest))
    assert checks["RK107"].status == "fail"
    assert checks["RK107"].figures["saturated_draws"] > 0.5
    assert checks["RK104"].status == "fail"
    # The losses that saturation does not flatten still find what there is.
    assert checks["RK115"].status == "warn"


def test_zero_gradients_are_caught(honest):
    checks = audited(Rounded(honest))
    assert checks["RK104"].status == "fail"
    assert checks["RK104"].figures["images_without_gradient"] == 1.0
    # What a blind attack leaves standing shows in the other checks as well.
    assert checks["RK108"].status == "fail"
    assert checks["RK112"].status == "fail"


def test_noise_that_hides_the_gradient_is_caught(honest):
    checks = audited(Shattered(honest))
    assert checks["RK105"].status == "fail"
    assert checks["RK104"].status == "pass"
    assert {"RK108", "RK112"} & failed(checks)


def test_nan_logits_are_caught_and_named(honest):
    x, _ = blobs(IMAGES, seed=3)
    checks = audited(Sometimes(honest, float(x.mean(dim=(1, 2, 3)).sort().values[-3])))
    assert checks["RK106"].status == "fail"
    assert checks["RK106"].figures["not_finite"] >= 3
    assert "NaN" in checks["RK106"].says
    # The finite logits of two passes are the same.
    assert checks["RK123"].status == "pass"
    assert {check.status for code, check in checks.items() if code not in ("RK106", "RK123")} == {"skipped"}


def test_a_model_without_gradients_is_caught(honest):
    checks = audited(Detached(honest))
    assert checks["RK104"].status == "fail"
    assert checks["RK106"].status == "pass"
    assert checks["RK101"].status == "skipped"
    assert checks["RK112"].status == "fail"


def test_a_model_at_chance_has_nothing_to_audit():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([1.0, 0, 0, 0]).expand(len(x), -1) + 0 * x.flatten(1)[:, :1]

    x, y = blobs(IMAGES, seed=3)
    g = SmoothedClassifier(Constant(), noise(), 4, seed=0)
    found = measure(g, x, torch.where(y == 0, 1, y), SETTINGS)
    checks = {check.code: check for check in check_all(found)}
    assert checks["RK119"].status == "fail"
    assert "no image" in checks["RK119"].says


def test_a_planted_example_is_missed_by_a_blind_attack_and_found_by_a_sighted_one(honest):
    sighted = audited(honest, features=lambda x: honest.features(x - 0.5))["RK114"]
    assert sighted.status == "pass"
    assert sighted.figures == {"planted": 4.0, "found": 1.0}
    # Rounding to sixteenths: the features differ, the gradient does not say where.
    rounded = Rounded(honest)
    blind = audited(rounded, features=lambda x: honest.features((16 * x).round() / 16 - 0.5))["RK114"]
    assert blind.status == "fail"


def test_the_same_seed_gives_the_same_figures(honest):
    small = Settings("linf", 0.05, steps=4, eot=4, queries=20, planted=1)
    first, second = (audited(honest, small, images=12) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("norm, eps", [("l2", 0.3), ("l1", 1.0)])
def test_other_norms(honest, norm, eps):
    checks = audited(honest, Settings(norm, eps, steps=8, eot=8, queries=30, planted=1), images=16)
    assert failed(checks) == set()
    assert [check.code for check in checks.values() if check.status == "skipped"] == NOT_ASKED


def test_checks_are_plain_data_with_codes_of_their_own(honest):
    checks = audited(honest, Settings("linf", 0.05, steps=4, eot=4, queries=10, planted=1), images=8)
    assert [check.code for check in checks.values()] == [code for code, _, _ in CHECKS]
    numbers = [int(code.removeprefix("RK")) for code, _, _ in CHECKS]
    assert numbers == sorted(set(numbers))
    assert all(isinstance(check, Check) for check in checks.values())
    json.dumps([check.figures for check in checks.values()], allow_nan=False)


@pytest.mark.parametrize("norm, large", [("linf", 0.5), ("l2", 0.5 * 12**0.5), ("l1", 6.0)])
def test_the_sweeps_go_from_a_quarter_to_twice_the_budget_and_to_a_radius_that_reaches_grey(norm, large):
    settings = Settings(norm, 0.05, steps=8, eot=4)
    planned = plan(settings, 4, 3, (5, 3, 2, 2))
    at = {place: [each for each in planned if each.place == place] for place in ("steps", "draws", "radii")}
    assert [each.options["steps"] for each in at["steps"]] == [2, 4, 8, 16]
    assert [each.options for each in at["draws"]] == [{"steps": 4, "samples": count} for count in (1, 2, 4, 8)]
    assert [each.options["eps"] for each in at["radii"]] == pytest.approx([0.025, 0.1, large])
    for place, option in (("steps", "steps"), ("draws", "samples"), ("radii", "eps")):
        assert [each.value for each in at[place]] == [each.options[option] for each in at[place]]
    assert [each.label for each in planned if each.base] == ["8 steps"]


def test_images_from_beyond_eps_are_no_candidates_for_the_worst_versions():
    g, x, y = prototypes()
    settings = Settings("linf", 0.05, steps=4, eot=2, queries=5)
    attacks = Attacks(g, x, y, settings)
    for measurement in plan(settings, 4, 3, x.shape):
        if measurement.kind == "planted":
            continue
        found, x_adv = attacks.measure(measurement)
        assert (x_adv is not None) == (measurement.label not in ("2 eps", "large eps")), measurement.label
        assert found.excess < 1e-6
        if x_adv is not None:
            assert (x_adv - x).abs().max() <= 0.05 + 1e-6


def test_a_label_beyond_the_model_is_refused(honest):
    x, y = blobs(8, 3)
    with pytest.raises(UsageError, match="labels must be 0 to 3"):
        measure(SmoothedClassifier(honest, noise(), 4, seed=0), x, y + CLASSES, SETTINGS)
