"""Bad input: one message that names it, and no attack."""

import pytest
import torch
from planted_models import Box, Linear, small_network, spaced
from torch import nn

from rushkit import attacks
from rushkit.errors import NumericsError, PluginError, UsageError
from rushkit.smoothing import SmoothedClassifier

EVERY = ["pgd", "apgd", "autoattack", "fab", "square", "fgsm"]


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", [*EVERY, "cw"])
def test_a_radius_that_is_none(name, eps):
    with pytest.raises(UsageError, match="eps must be a finite number"):
        attacks.create(name, norm="l2" if name == "cw" else "linf", eps=eps)


@pytest.mark.parametrize(
    "name, norm, has",
    [("fgsm", "l2", "linf"), ("apgdt", "l1", "linf, l2"), ("cw", "linf", "l2"), ("onepixel", "l2", "l1")],
)
def test_a_norm_that_the_attack_lacks(name, norm, has):
    with pytest.raises(UsageError, match=f"{name} has no norm '{norm}'") as caught:
        attacks.create(name, norm=norm, eps=0.1)
    assert caught.value.hint == f"it has: {has}; attacks in {norm}: pgd, apgd, cascade, autoattack, fab, square"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["pgd", "apgd", "cascade", "autoattack", "fab", "square"])
def test_the_attacks_that_are_offered_for_a_norm_have_it(name, norm):
    assert attacks.create(name, norm=norm, eps=0.1).norm == norm


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_targets_are_cut_to_the_other_classes(norm, loss):
    """Four classes have three targets, of two steps each, for each of four images that nothing breaks."""
    model, x, y = small_network(classes=4, images=60)
    attack = attacks.create("apgd", norm=norm, eps=1e-6, steps=2, targeted=True, n_targets=9, loss=loss)
    assert attack.run(model, x[:4], y[:4]).image_backwards == 3 * 2 * 4


@pytest.mark.parametrize("name", EVERY)
def test_a_norm_that_does_not_exist(name):
    with pytest.raises(UsageError, match="norm"):
        attacks.create(name, norm="l3", eps=0.1)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("pgd", {"steps": 0}, "steps must be at least 1"),
        ("pgd", {"restarts": 0}, "restarts must be at least 1"),
        ("pgd", {"step_size": 0.0}, "step_size"),
        ("pgd", {"loss": "cw"}, "loss"),
        ("pgd", {"nois": "fixed"}, "did you mean noise"),
        ("apgd", {"n_targets": 0}, "n_targets"),
        ("autoattack", {"version": "plus"}, "version"),
        ("autoattack", {"queries": 0}, "queries"),
        ("autoattack", {"effort": 3}, "it has: 1, 2, 4"),
        ("square", {"queries": 0}, "queries must be at least 1"),
        ("fab", {"steps": 0}, "steps must be at least 1"),
        ("fgsm", {"steps": 3}, "unknown option 'steps'"),
        ("bim", {"step": 3}, "did you mean steps"),
        ("bim", {"steps": 2.5}, "steps must be a whole number"),
        ("torchattacks/bim", {"step": 3}, "did you mean steps"),
        ("torchattacks/nothing", {}, "no attack 'nothing'"),
    ],
)
def test_an_option_that_does_not_fit(name, options, message):
    with pytest.raises(UsageError, match=message):
        attacks.create(name, norm="linf", eps=0.1, **options)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x, y: (x * 255, y), r"pixels must lie in \[0, 1\]"),
        (lambda x, y: (x - 1, y), r"pixels must lie in \[0, 1\]"),
        (lambda x, y: (x * float("nan"), y), r"pixels must lie in \[0, 1\]"),
        (lambda x, y: (x[0], y), "floating-point"),
        (lambda x, y: (x[:0], y[:0]), "N > 0"),
        (lambda x, y: ((x * 255).byte(), y), "divide uint8"),
        (lambda x, y: (x, None), "needs labels"),
        (lambda x, y: (x, y[:-1]), "labels are whole numbers"),
        (lambda x, y: (x, y.float()), "labels are whole numbers"),
        (lambda x, y: (x, y + 5), "labels must be 0 to 1"),
        (lambda x, y: (x, y - 1), "labels must be 0"),
    ],
)
def test_images_and_labels_that_do_not_fit(name, change, message):
    model, x, y, _ = spaced("linf", count=4)
    with pytest.raises(UsageError, match=message):
        attacks.create(name, norm="linf", eps=0.1)(model, *change(x, y))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("smoothed", [False, True], ids=["plain", "smoothed"])
def test_logits_that_are_not_finite_are_named_and_never_a_success(name, value, smoothed):
    model, x, y, _ = spaced("linf", count=4)
    with torch.no_grad():
        model.bias[0] = value
    attacked = SmoothedClassifier(model, Box(0.1), samples=2, seed=0) if smoothed else model
    with pytest.raises(NumericsError, match="NaN or infinite logits"):
        attacks.create(name, norm="linf", eps=0.1)(attacked, x, y)


class Quantised(nn.Module):
    """Rounds its logits through integers: nothing flows back."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return (self.inner(x) * 8).long().float()


@pytest.mark.parametrize("smoothed", [False, True], ids=["plain", "smoothed"])
@pytest.mark.parametrize("name", ["pgd", "apgd", "autoattack", "fab", "fgsm"])
def test_a_model_without_gradient_is_named_and_square_offered(name, smoothed):
    model, x, y, _ = spaced("linf", count=4)
    blocked = Quantised(model)
    attacked = SmoothedClassifier(blocked, Box(0.01), samples=2, seed=0) if smoothed else blocked
    with pytest.raises(UsageError, match="no gradient") as caught:
        attacks.create(name, norm="linf", eps=0.1)(attacked, x, y)
    assert "square" in str(caught.value)


def test_square_attacks_a_model_without_gradient():
    model, x, y, _ = spaced("linf", count=4)
    assert attacks.create("square", norm="linf", eps=0.1, queries=200).run(Quantised(model), x, y).success.any()


def test_a_gradient_that_is_not_finite_is_named():
    class Root(nn.Module):
        def forward(self, x):
            total = (x - x.detach()).abs().sum(dim=(1, 2, 3)).sqrt()
            return torch.stack([total, -total], 1)

    x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    with pytest.raises(NumericsError, match="gradient"):
        attacks.create("pgd", norm="linf", eps=0.1)(Root(), x, y)


@pytest.mark.parametrize("options", [{"loss": "dlr"}, {"loss": "dlr-mean"}, {"loss": "dlr", "targeted": True}])
@pytest.mark.parametrize("name", ["pgd", "apgd"])
def test_too_few_classes_for_dlr(name, options):
    model, x, y, _ = spaced("linf", count=4)
    with pytest.raises(UsageError, match="classes"):
        attacks.create(name, norm="linf", eps=0.1, **options)(model, x, y)


def test_a_single_logit_and_a_wrong_shape_of_logits():
    x, y = torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(UsageError, match="single logit"):
        attacks.create("pgd", norm="linf", eps=0.1)(Linear(torch.ones(1, 4), torch.zeros(1)), x, y)
    with pytest.raises(UsageError, match="returned shape"):
        attacks.create("pgd", norm="linf", eps=0.1)(nn.Identity(), x, y)


def test_targets_are_for_targeted_attacks_and_differ_from_the_labels():
    model, x, y, _ = spaced("linf", count=4)
    with pytest.raises(UsageError, match="untargeted"):
        attacks.create("pgd", norm="linf", eps=0.1).run(model, x, y, 1 - y)
    with pytest.raises(UsageError, match="differ from the labels"):
        attacks.create("pgd", norm="linf", eps=0.1, targeted=True).run(model, x, y, y)


def test_what_breaks_inside_torchattacks_is_named(monkeypatch):
    def divided(self, images, labels):
        return 1 // 0

    monkeypatch.setattr("torchattacks.EADL1.forward", divided)
    model, x, y, _ = spaced("l1", count=4)
    with pytest.raises(PluginError, match="EADL1 failed"):
        attacks.create("eadl1", norm="l1", eps=0.1, max_iterations=20)(model, x, y)


# fgsm has l-inf alone.
@pytest.mark.parametrize(
    ("name", "norm"),
    [(name, norm) for name in EVERY for norm in ("linf", "l2", "l1") if name != "fgsm" or norm == "linf"],
)
def test_a_ball_of_radius_zero_returns_the_images(name, norm):
    model, x, y, _ = spaced("linf", count=4)
    attacked = attacks.create(name, norm=norm, eps=0, **({"steps": 5} if name not in ("square", "fgsm") else {}))
    assert torch.equal(attacked(model, x, y), x)
