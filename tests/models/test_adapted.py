"""Whatever a module takes and returns, one row of logits an image comes out, or one message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from rushkit.errors import PluginError, UsageError
from rushkit.models.adapted import Adapted, Reading
from rushkit.models.answers import answer_kind
from rushkit.models.black_box import BlackBox

X = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
# (4, 3): the means of the channels, which any of the modules below shows in its own way.
MEANS = X.mean(dim=(2, 3))


class Shows(nn.Module):
    """Returns a function of the means of the channels."""

    def __init__(self, show) -> None:
        super().__init__()
        self.show = show

    def forward(self, x):
        return self.show(x.mean(dim=(2, 3)))


class Pair(NamedTuple):
    features: torch.Tensor
    scores: torch.Tensor


def adapted(show, **reading) -> Adapted:
    return Adapted(Shows(show), Reading(**reading))


@pytest.mark.parametrize(
    "show, reading",
    [
        (lambda m: m, {}),
        (lambda m: (m,), {}),
        (lambda m: {"logits": m, "features": m[:, :2]}, {}),
        (lambda m: {"a": m, "b": m[:, :2]}, {"output": "a"}),
        (lambda m: (m[:, :2], m), {"output": "1"}),
        (lambda m: (m[:, :2], m), {"classes": 3}),
        (lambda m: (m, m.mean()), {}),
        (lambda m: Pair(m[:, :2], m), {"output": "scores"}),
        (lambda m: SimpleNamespace(logits=m, loss=None), {}),
        (lambda m: m.half().float(), {}),
    ],
)
def test_the_logits_are_found_among_the_outputs(show, reading):
    torch.testing.assert_close(adapted(show, **reading)(X), MEANS, atol=1e-3, rtol=0)


def test_pixels_are_normalised_where_the_module_does_not():
    mean, std = (0.1, 0.2, 0.3), (0.5, 2.0, 4.0)
    expected = (MEANS - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(adapted(lambda m: m, mean=mean, std=std)(X), expected)


@pytest.mark.parametrize("dtype, returned", [(torch.float64, torch.float64), (torch.float16, torch.float32)])
def test_a_module_gets_the_precision_of_its_weights(dtype, returned):
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).to(dtype)
    logits = Adapted(module, Reading())(X)
    assert logits.dtype == returned
    torch.testing.assert_close(logits, module(X.to(dtype)).to(returned))


@pytest.mark.parametrize("show", [lambda m: m[:, 0], lambda m: m[:, :1]])
def test_a_single_logit_is_that_of_the_second_class_against_0(show):
    logits = adapted(show)(X)
    torch.testing.assert_close(logits.softmax(1)[:, 1], MEANS[:, 0].sigmoid())


def test_a_single_share_is_that_of_the_second_class():
    logits = adapted(lambda m: m[:, 0], answers="probabilities")(X)
    torch.testing.assert_close(logits.softmax(1)[:, 1], MEANS[:, 0])


def test_the_only_image_of_a_batch_may_lose_its_dimension():
    module = adapted(lambda m: m.squeeze())
    torch.testing.assert_close(module(X[:1]), MEANS[:1])


def test_shares_become_their_logarithms_and_keep_their_gradient():
    module, x = adapted(lambda m: m.softmax(1), answers="probabilities"), X.clone().requires_grad_()
    torch.testing.assert_close(module(x).softmax(1), MEANS.softmax(1))
    (gradient,) = torch.autograd.grad(module(x)[:, 0].sum(), x)
    assert gradient.any()
    assert answer_kind(module) == "logits"


def test_labels_become_a_row_that_votes_for_them():
    module = adapted(lambda m: m.argmax(1), answers="labels", classes=3)
    assert torch.equal(module(X).argmax(1), MEANS.argmax(1))
    assert answer_kind(module) == "labels"


def test_a_module_without_gradient_is_run_without_one():
    module = Adapted(Shows(lambda m: torch.from_numpy(m.numpy())), Reading())
    module.differentiable = False
    assert not module(X.clone().requires_grad_()).requires_grad
    assert answer_kind(module) == "probabilities"


@pytest.mark.parametrize(
    "show, reading, says",
    [
        (lambda m: (m, m), {}, "several things: 0 (4, 3), 1 (4, 3)"),
        (lambda m: {"a": m}, {"output": "b"}, "no tensor b: it has a (4, 3)"),
        (lambda m: m, {"output": "b"}, "one tensor"),
        (lambda m: None, {}, "returned NoneType"),
        (lambda m: m.argmax(1), {}, "whole numbers"),
        (lambda m: m.long(), {}, "whole numbers"),
        (lambda m: m[:, :, None, None].expand(-1, -1, 2, 2), {}, "(4, 3, 2, 2) for 4 images"),
        (lambda m: m[:2], {}, "(2, 3) for 4 images"),
        (lambda m: m, {"answers": "probabilities"}, "add up to"),
        (lambda m: m / 0, {"answers": "probabilities"}, "add up to"),
        (lambda m: m, {"answers": "labels", "classes": 3}, "one whole number an image"),
        (lambda m: m[:, 0], {"answers": "labels", "classes": 3}, "one whole number an image"),
        (lambda m: m.argmax(1) + 3, {"answers": "labels", "classes": 3}, "outside 0..2"),
    ],
)
def test_what_is_no_row_of_logits_is_refused_in_one_message(show, reading, says):
    with pytest.raises(UsageError) as refused:
        adapted(show, name="net.py:Net", **reading)(X)
    assert says.replace("b:", "'b':") in refused.value.message
    assert refused.value.message.startswith("net.py:Net returned")
    assert refused.value.hint


def test_an_error_of_the_modules_own_names_it_and_the_size():
    def fails(means):
        raise AttributeError("no such layer\nmore")

    with pytest.raises(PluginError) as failed:
        adapted(fails, name="net.py:Net")(X)
    assert failed.value.message == "net.py:Net cannot take images of 3x2x2: AttributeError: no such layer"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ">f4"])
def test_a_callable_gets_numpy_images_and_its_answers_count(dtype):
    seen = []

    def answer(images):
        seen.append(images)
        shares = torch.from_numpy(images).mean(dim=(2, 3)).softmax(1).numpy()
        images[:] = 0
        return shares.astype(dtype)[::-1][::-1]

    module = Adapted(BlackBox(answer), Reading(answers="probabilities"))
    before = X.clone()
    torch.testing.assert_close(module(X).softmax(1).float(), MEANS.softmax(1), atol=2e-3, rtol=0)
    assert seen[0].dtype == np.float32
    assert seen[0].shape == X.shape
    assert torch.equal(X, before)


@pytest.mark.parametrize("answers", [None, ["cat"] * 4, object(), [[1], [1, 2]]])
def test_a_callable_that_answers_with_no_numbers_is_refused(answers):
    with pytest.raises(UsageError, match="answered"):
        Adapted(BlackBox(lambda images: answers), Reading(answers="labels", classes=3))(X)
