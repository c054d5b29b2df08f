"""Free adversarial training: what it trains on, what its perturbation becomes, and what a resumed run remembers."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from batches import batch_of, plain
from tiny_runs import QUIET, checkpoint_of, finetuned, toy
from torch import nn
from torch.nn import functional as F

from rushkit.errors import Interrupted, UsageError
from rushkit.objectives.free import Free
from rushkit.run.folder import Run
from rushkit.setup.start import start_run
from rushkit.training.finetune import finetune

pytestmark = pytest.mark.usefixtures("untouched_global_state")


def exact(images, generator):
    return plain(images, generator).double()


def images_of(count=6, low=0, high=256, size=6):
    source = torch.Generator().manual_seed(1)
    return torch.randint(low, high, (count, 3, size, size), generator=source, dtype=torch.uint8)


class Recorded(nn.Module):
    """A network that keeps its inputs."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.model(x)


def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(toy(image_size=6), nn.Linear(8, 3))
    return Recorded(model.double())


def logistic(weight):
    """A linear model of two classes whose margin for class 1 is w·x."""
    layer = nn.Linear(weight.numel(), 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.zeros_like(weight), weight]))
        layer.bias.zero_()
    return Recorded(nn.Sequential(nn.Flatten(), layer))


def memory_of(objective, images):
    return objective.attach(None, images.shape).double()


def train(objective, network, memory, batch, lr=0.0):
    """Do as the loop does with a batch, and return the losses."""
    optimizer, losses = torch.optim.SGD(network.parameters(), lr), []
    for loss in objective.losses(network, memory, batch):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_of_a_logistic_model_the_perturbation_is_the_worst_after_one_replay_and_for_ever():
    images, labels, eps = images_of(low=60, high=190), torch.tensor([0, 1] * 3), 8 / 255
    with torch.random.fork_rng():
        weight = torch.randn(108, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        network = logistic(weight)
    objective = Free(replays=4)
    memory = memory_of(objective, images)
    sides = torch.where(labels == 1, 1.0, -1.0).double()
    worst = -eps * sides.view(-1, 1, 1, 1) * weight.sign().view(1, 3, 6, 6)
    for _ in range(2):
        losses = train(objective, network, memory, batch_of(images, labels, views=exact, classes=2), lr=1e-3)
        assert len(losses) == 4
        torch.testing.assert_close(memory.delta, worst, rtol=0, atol=1e-15)
    clean, *attacked = network.seen[:4]
    assert torch.equal(clean, exact(images, None))
    for x in (*attacked, *network.seen[4:]):
        torch.testing.assert_close(x, clean + worst, rtol=0, atol=1e-15)


def test_the_worst_loss_of_a_logistic_model_has_its_closed_form():
    images, labels, eps = images_of(count=1, low=60, high=190), torch.tensor([1]), 8 / 255
    with torch.random.fork_rng():
        weight = torch.randn(108, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        network = logistic(weight)
    objective = Free(replays=2)
    batch = batch_of(images, labels, views=exact, classes=2)
    margin = (weight @ exact(images, None).flatten()).item()
    clean, worst = train(objective, network, memory_of(objective, images), batch)
    expected = F.softplus(torch.tensor([-margin, -margin + eps * weight.abs().sum().item()], dtype=torch.float64))
    assert [clean, worst] == pytest.approx(expected.tolist(), abs=1e-12)


@pytest.mark.parametrize("step_size", [None, 3 / 255])
def test_without_a_learning_rate_the_replays_are_steps_of_pgd_from_the_perturbation_carried_on(step_size):
    images, labels, eps, network = images_of(), torch.tensor([0, 1, 2, 0, 1, 2]), 8 / 255, small()
    objective = Free(replays=3, step_size=step_size)
    memory = memory_of(objective, images)
    memory.delta.uniform_(-eps, eps, generator=torch.Generator().manual_seed(3))
    x, delta = exact(images, None), memory.delta.clone()
    train(objective, network, memory, batch_of(images, labels, views=exact, classes=3))
    reached = list(network.seen)
    for point in reached:
        torch.testing.assert_close(point, (x + delta).clamp(0, 1), rtol=0, atol=1e-15)
        z = (x + delta).clamp(0, 1).requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(network(z), labels), z)
        # A pixel that the box clips keeps its perturbation.
        slope[(x + delta < 0) | (x + delta > 1)] = 0
        delta = (delta + (step_size or eps) * slope.sign()).clamp(-eps, eps)
    torch.testing.assert_close(memory.delta, delta, rtol=0, atol=1e-15)
    assert len(reached) == 3


def test_the_box_is_that_of_the_images_or_of_the_perturbation():
    # White images whose margin grows with brightness: of class 0, whose loss is raised by more light.
    images, labels, eps = images_of(low=255), torch.zeros(6, dtype=torch.int64), 8 / 255
    for box, kept in (("input", eps), ("delta", 0.0)):
        with torch.random.fork_rng():
            network = logistic(torch.ones(108, dtype=torch.float64))
        objective = Free(replays=3, box=box)
        memory = memory_of(objective, images)
        # Left by another image, in the same row, that was darker.
        memory.delta.fill_(eps)
        train(objective, network, memory, batch_of(images, labels, views=exact, classes=2))
        assert all(torch.equal(seen, torch.ones_like(seen)) for seen in network.seen)
        assert torch.equal(memory.delta, torch.full_like(memory.delta, kept))


def test_a_batch_of_fewer_images_leaves_the_other_rows_alone():
    images, labels, network = images_of(), torch.tensor([0, 1, 2, 0]), small()
    objective = Free(replays=2)
    memory = memory_of(objective, images)
    memory.delta.fill_(0.01)
    train(objective, network, memory, batch_of(images[:4], labels, views=exact, classes=3))
    assert torch.equal(memory.delta[4:], torch.full_like(memory.delta[4:], 0.01))
    assert (memory.delta[:4] != 0.01).flatten(1).any(1).all()


def test_without_carrying_every_batch_starts_from_its_images():
    images, labels, network = images_of(), torch.tensor([0, 1, 2, 0, 1, 2]), small()
    objective = Free(replays=2, carry=False)
    memory = memory_of(objective, images)
    for _ in range(2):
        train(objective, network, memory, batch_of(images, labels, views=exact, classes=3))
    first, _, again, _ = network.seen
    assert torch.equal(first, exact(images, None))
    assert torch.equal(again, first)
    assert dict(memory.named_buffers()) == {}


def test_one_replay_within_a_ball_of_nothing_is_cross_entropy_bit_for_bit(tiny):
    common = ("finetune.freeze=none", "finetune.augment=crop-flip", "noise.name=none")
    plainly = checkpoint_of(finetuned(tiny("finetune.objective=cross-entropy", *common), None)).tensors
    free = tiny("finetune.objective=free", "finetune.replays=1", "finetune.eps=0", *common)
    freely = checkpoint_of(finetuned(free, None)).tensors
    assert not freely.pop("training.memory.delta").any()
    assert freely.keys() == plainly.keys()
    assert [name for name in plainly if not torch.equal(freely[name], plainly[name])] == []


@pytest.mark.parametrize("step", [2, 4])
def test_a_stopped_run_goes_on_with_its_perturbation(tiny, at_step, step):
    recipe = tiny("finetune.objective=free", "finetune.replays=3", "finetune.freeze=none", "noise.name=none")
    whole = checkpoint_of(finetuned(recipe, None)).tensors
    assert whole["training.memory.delta"].shape == (20, 3, 8, 8)
    assert whole["training.memory.delta"].flatten(1).any(1).all()
    at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        finetune(recipe, None, run)
    with Run.open(run.path, QUIET) as resumed:
        finetune(recipe, None, resumed)
    again = checkpoint_of(resumed).tensors
    assert [name for name in whole if not torch.equal(again[name], whole[name])] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eps": 8}, "eps 8 is more than"),
        ({"step_size": 2.0}, "step_size 2 is more than"),
        ({"replays": 0}, "replays must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        Free(**options)
