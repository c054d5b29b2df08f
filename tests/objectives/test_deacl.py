"""``deacl``: its fixed point, its passes and gradients written out, where the student starts, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from batches import batch_of
from robust_losses import images_of
from tiny_runs import toy
from torch import nn
from torch.nn import functional as F

from rushkit.errors import UsageError
from rushkit.models.network import Network
from rushkit.models.normalise import Normalised
from rushkit.objectives.deacl import DeACL, cosines
from rushkit.views import CropFlip

EPS, SIZE = 0.03, 8


class Wide(nn.Module):
    """An encoder in float64 of float32 images."""

    def __init__(self, width=8, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = toy(width=width).double()
        self.num_features = width

    def forward(self, x):
        return self.model(x.double())


def attached(objective, student=None, teacher=None):
    """The network of an objective, and its memory with the teacher."""
    network = Network(student or Wide(), objective.head(8, [10]), "projector")
    teacher = (teacher or Wide(seed=1)).eval().requires_grad_(False)
    return network, objective.attach_teacher(network, teacher, (6, 3, SIZE, SIZE))


def graded(objective, network, memory, seed=0):
    """The only loss of an objective on six images, after its backward pass, and the batch."""
    batch = batch_of(images_of(6, SIZE), seed=seed)
    (loss,) = list(objective.losses(network, memory, batch))
    loss.backward()
    return loss.detach(), batch


def test_a_student_that_is_its_teacher_stays_so_without_a_ball():
    objective = DeACL(eps=0.0)
    network, memory = attached(objective)
    network.eval()
    loss, batch = graded(objective, network, memory)
    torch.testing.assert_close(loss, torch.tensor(-3.0, dtype=torch.float64), rtol=0, atol=1e-12)
    for parameter in network.parameters():
        torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter), rtol=0, atol=1e-12)
    assert {name: round(float(figure), 12) for name, figure in batch.noted.items()} == {
        "cosine_to_teacher": 1.0,
        "cosine_under_attack": 1.0,
    }


@pytest.mark.parametrize("student_start", ["teacher", "random"])
def test_loss_gradients_and_statistics_are_those_of_the_formula_written_out(student_start):
    objective = DeACL(eps=EPS, beta=1.5, steps=3, student_start=student_start, padding=1)
    network, memory = attached(objective)
    # A student that has moved away from its teacher.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.sin(torch.arange(parameter.numel(), dtype=torch.float64)).view_as(parameter)
    student, teacher = copy.deepcopy(network.encoder), memory["teacher"]
    loss, _ = graded(objective, network, memory)
    batch = batch_of(images_of(6, SIZE))
    x = batch.view(CropFlip(1, 0.5))
    low, high = (x - EPS).clamp(min=0), (x + EPS).clamp(max=1)
    moved = torch.minimum(torch.maximum(x + EPS * batch.uniform(x), low), high)
    target = teacher(x)
    student.eval()
    for _ in range(3):
        moved.requires_grad_()
        similar = sum(F.cosine_similarity(s, t, dim=0) for s, t in zip(student(moved), target, strict=True))
        (slope,) = torch.autograd.grad(similar, moved)
        moved = torch.minimum(torch.maximum(moved.detach() - EPS / 4 * slope.sign(), low), high)
    student.train()
    features = student(torch.cat([x, moved]))
    clean, attacked = features[:6], features[6:]
    terms = [
        -F.cosine_similarity(clean[i], target[i], dim=0) - 1.5 * F.cosine_similarity(attacked[i], clean[i], dim=0)
        for i in range(6)
    ]
    expected = sum(terms) / 6
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-10)
    for one, other in zip(network.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-10)
    for one, other in zip(network.buffers(), student.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    assert network.encoder.model[1].num_batches_tracked == 1


def test_the_teacher_sees_the_clean_views_in_eval_mode_and_stays_as_it_is():
    objective = DeACL(eps=EPS, steps=2)
    network, memory = attached(objective)
    teacher, seen = memory["teacher"], []
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    teacher.register_forward_pre_hook(lambda module, given: seen.append((module.model[1].training, given[0])))
    teacher.train()
    graded(objective, network, memory)
    ((training, x),) = seen
    assert not training
    assert torch.equal(x, batch_of(images_of(6, SIZE)).view(CropFlip(4, 0.5)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_defaults_are_the_published_ones():
    objective = DeACL()
    ball = objective.ball()
    assert (ball.norm, ball.eps, ball.step_size, ball.steps) == ("linf", 8 / 255, 2 / 255, 5)
    assert (ball.start, ball.bn, objective.beta, objective.student_start) == ("uniform", "eval", 2.0, "teacher")


def test_a_student_starts_from_the_teachers_weights_and_statistics_or_from_its_own():
    own = Wide().state_dict()
    for student_start in ("teacher", "random"):
        network, memory = attached(DeACL(student_start=student_start))
        expected = memory["teacher"].state_dict() if student_start == "teacher" else own
        for name, tensor in network.encoder.state_dict().items():
            assert torch.equal(tensor, expected[name])
        assert not {id(tensor) for tensor in network.parameters()} & {id(tensor) for tensor in memory.parameters()}
        assert all(parameter.requires_grad for parameter in network.parameters())


def test_cosines_are_of_pairs_whatever_their_scale_and_zero_for_zero_rows():
    one = torch.tensor([[1e-30, 0.0], [3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    other = torch.tensor([[1e30, 1e30], [-3.0, -4.0], [1.0, 0.0]])
    values = cosines(one, other)
    torch.testing.assert_close(values, torch.tensor([0.5**0.5, -1.0, 0.0]))
    values.sum().backward()
    assert one.grad.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        assert cosines(one.bfloat16(), other.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("student_start", ["teacher", "random"])
def test_features_of_another_length_are_a_usage_error(student_start):
    with pytest.raises(UsageError, match="the teacher has 4 features and the student 8"):
        attached(DeACL(student_start=student_start), teacher=Wide(width=4))


class Deeper(Wide):
    """As ``Wide``, with a layer that is not in it."""

    def __init__(self):
        super().__init__(seed=1)
        self.model.append(nn.Linear(8, 8).double())


def test_a_teacher_of_another_architecture_may_teach_but_not_give_its_weights():
    with pytest.raises(UsageError, match=r"its backbone is another one: they differ in model\.7\.bias"):
        attached(DeACL(), teacher=Deeper())
    network, _ = attached(DeACL(student_start="random"), teacher=Deeper())
    assert torch.equal(network.encoder.model[0].weight, Wide().model[0].weight)


def test_weights_that_compute_other_features_are_a_usage_error():
    def normalised(mean):
        return Normalised(toy(), [mean] * 3, [0.2] * 3, 3)

    with pytest.raises(UsageError, match="computes other features"):
        attached(DeACL(), student=normalised(0.5), teacher=normalised(0.4))
    attached(DeACL(), student=normalised(0.5), teacher=normalised(0.5))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"beta": -0.1}, "beta must be at least 0"),
        ({"beta": float("nan")}, "beta must be at least 0"),
        ({"start": "clean"}, "start = clean"),
        ({"padding": -1}, "padding must be at least 0"),
        ({"flip": 1.5}, "flip must be between 0 and 1"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_a_usage_error(options, words):
    with pytest.raises(UsageError, match=words):
        DeACL(**options)
