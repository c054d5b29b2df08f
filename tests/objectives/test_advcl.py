"""``advcl``: its attacks know nothing of one another; loss, gradients and BatchNorm are those of the formula."""

from __future__ import annotations

import pytest
import torch
from batches import batch_of
from robust_losses import images_of, wide
from tiny_runs import toy
from torch.nn import functional as F

from rushkit.errors import UsageError
from rushkit.models.network import Network
from rushkit.objectives.advcl import AdvCL
from rushkit.views import CropFlip
from rushkit.views.high_pass import high_pass

EPS, STEP = 8 / 255, 2 / 255
SIZE, RADIUS = 8, 2.0
CLASSES = (2, 5)
LABELS = torch.tensor([[0, 4], [1, 1], [1, 0], [0, 2], [1, 3]])
SOME = torch.tensor([[0, -1], [-1, 1], [1, -1], [-1, -1], [0, 3]])


def coloured(images, generator):
    """Views that differ from one another: each image with a brightness of its own, in float64."""
    factors = 0.5 + 0.5 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return wide(images, None) * factors


def objective_of(**options):
    return AdvCL(**{"radius": RADIUS, "padding": 1, "hidden": 16, "out": 8, **options})


def parts_of(objective, classes=CLASSES):
    """A network and its memory in float64; the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(toy(image_size=SIZE), objective.head(8, classes), "projector").double()
        memory = objective.attach(network, (len(LABELS), 3, SIZE, SIZE)).double()
    return network, memory


def batch_with(labels, seed=0):
    return batch_of(images_of(len(labels), SIZE), labels, views=coloured, seed=seed)


class Watched:
    """An objective's only loss, and what the three branches saw in train mode."""

    def __init__(self, objective, labels=LABELS, parts=None, seed=0):
        self.network, self.memory = parts or parts_of(objective)
        self.seen = {"attacked": [], "clean": [], "labels": []}
        branches = zip(self.seen, (self.network, self.memory.clean, self.memory.labels), strict=True)
        handles = [branch.register_forward_pre_hook(self._keeper(name)) for name, branch in branches]
        (self.loss,) = objective.losses(self.network, self.memory, batch_with(labels, seed))
        for handle in handles:
            handle.remove()

    def _keeper(self, name):
        def keep(branch, given):
            if branch.training:
                (x,) = given
                self.seen[name].append(x.detach().requires_grad_())
                return self.seen[name][-1:]

        return lambda branch, given: tuple(kept) if (kept := keep(branch, given)) else None

    @property
    def attacked(self):
        (x,) = self.seen["attacked"]
        return x

    @property
    def mistaken(self):
        (x,) = self.seen["labels"]
        return x

    def gradient(self, x):
        (gradient,) = torch.autograd.grad(self.loss, x, retain_graph=True)
        return gradient


def slow_contrast(views, temperature=0.5):
    """The loss over the views of a batch, the positives of an anchor averaged: one term after the other."""
    rows = [(view, i, F.normalize(z[i], dim=0)) for view, z in enumerate(views) for i in range(len(z))]
    total = 0.0
    for view, i, z in rows:
        others = [(other, j, (z @ w) / temperature) for other, j, w in rows if (other, j) != (view, i)]
        among = torch.stack([s for *_, s in others]).exp().sum().log()
        own = [among - s for _, j, s in others if j == i]
        total = total + sum(own) / len(own) / len(rows)
    return total


def slow_labels(logits, labels):
    """The mean over the columns of the mean cross-entropy of the images that have a label there."""
    first, terms = 0, []
    for j, count in enumerate(CLASSES):
        part = logits[:, first : first + count].log_softmax(1)
        own = [-part[i, y] for i, y in enumerate(labels[:, j].tolist()) if y >= 0]
        terms.append(sum(own) / len(own) if own else torch.zeros(()))
        first += count
    return sum(terms) / len(terms)


def climbed(loss, x, start, steps=5):
    """Steps along the sign of the gradient, within the ball and the box."""
    low, high = (x - EPS).clamp(min=0), (x + EPS).clamp(max=1)
    point = (x + EPS * start).clamp(min=low, max=high)
    for _ in range(steps):
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(point), point)
        point = (point + STEP * gradient.sign()).clamp(min=low, max=high)
    return point.detach()


@pytest.mark.parametrize("labels", [LABELS, SOME], ids=["labels", "some"])
def test_loss_gradients_and_statistics_are_those_of_the_formula(labels):
    objective = objective_of()
    network, memory = parts_of(objective)
    (loss,) = objective.losses(network, memory, batch_with(labels))
    loss.backward()
    # The slow way. Copied together, the branches share what they share here.
    slow, beside = parts_of(objective)
    clean, labelled = beside.clean, beside.labels
    batch = batch_with(labels)
    t1, t2 = batch.view(), batch.view()
    o = batch.view(CropFlip(1, 0.5)).double()
    u = high_pass(o, RADIUS)
    for branch in (slow, clean, labelled):
        branch.eval()
    with torch.no_grad():
        still = [clean(view) for view in (t1, t2, u)]
    first = climbed(lambda z: slow_contrast([slow(z), *still]), o, batch.uniform(o))
    second = climbed(
        lambda z: sum(slow_labels(labelled(z[[i]]), labels[[i]]) for i in range(len(z))), o, batch.uniform(o)
    )
    for branch in (slow, clean, labelled):
        branch.train()
    contrast = slow_contrast([slow(first), *(clean(view) for view in (t1, t2, u))])
    expected = 7.142857 * contrast + 0.2 * slow_labels(labelled(second), labels)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-10)
    for mine, theirs in ((network, slow), (memory, beside)):
        for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-10)
        for one, other in zip(mine.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_neither_attack_depends_on_the_other_term():
    usual = Watched(objective_of())
    for options in ({"scale": 50.0}, {"label_weight": 50.0}):
        other = Watched(objective_of(**options))
        assert torch.equal(other.attacked, usual.attacked)
        assert torch.equal(other.mistaken, usual.mistaken)
    assert torch.equal(Watched(objective_of(), LABELS.flip(0)).attacked, usual.attacked)
    assert torch.equal(Watched(objective_of(temperature=0.05)).mistaken, usual.mistaken)
    assert not torch.equal(Watched(objective_of(), LABELS.flip(0)).mistaken, usual.mistaken)


def test_the_contrast_has_no_gradient_at_the_other_attacked_image():
    one, other = Watched(objective_of(scale=1.0)), Watched(objective_of(scale=3.0))
    assert torch.equal(one.gradient(one.mistaken), other.gradient(other.mistaken))
    torch.testing.assert_close(3 * one.gradient(one.attacked), other.gradient(other.attacked))
    assert one.gradient(one.attacked).abs().max() > 0
    without = Watched(objective_of(label_weight=0.0))
    assert not without.gradient(without.mistaken).any()


def test_the_scale_is_a_weight_of_the_contrast():
    one, two = (Watched(objective_of(scale=scale)) for scale in (1.0, 2.0))
    network, memory = parts_of(objective_of())
    views = [network(one.attacked), *(memory.clean(view) for view in one.seen["clean"])]
    assert len(views) == 4
    torch.testing.assert_close(two.loss - one.loss, slow_contrast(views), rtol=0, atol=1e-12)


def test_the_weight_of_the_labels_is_one_of_their_mean_cross_entropy():
    one, two = (Watched(objective_of(label_weight=weight)) for weight in (1.0, 2.0))
    _, memory = parts_of(objective_of())
    expected = slow_labels(memory.labels(one.mistaken), LABELS)
    torch.testing.assert_close(two.loss - one.loss, expected, rtol=0, atol=1e-12)


def test_images_without_a_label_are_left_out_of_the_mean():
    one, two = (Watched(objective_of(label_weight=weight), SOME) for weight in (1.0, 2.0))
    _, memory = parts_of(objective_of())
    expected = slow_labels(memory.labels(one.mistaken), SOME)
    torch.testing.assert_close(two.loss - one.loss, expected, rtol=0, atol=1e-12)
    # One that has none at all is not attacked: it stays where it starts.
    start = Watched(objective_of(steps=1), SOME).mistaken
    assert [torch.equal(*pair) for pair in zip(one.mistaken, start, strict=True)] == [False, False, False, True, False]
    none = Watched(objective_of(), torch.full_like(LABELS, -1))
    assert none.loss.isfinite()
    assert not none.gradient(none.mistaken).any()


def test_without_a_ball_every_branch_sees_its_view():
    objective = objective_of(eps=0.0, scale=1.0)
    watched = Watched(objective)
    batch = batch_with(LABELS)
    t1, t2, o = batch.view(), batch.view(), batch.view(CropFlip(1, 0.5)).double()
    assert torch.equal(watched.attacked, o)
    assert torch.equal(watched.mistaken, o)
    for seen, view in zip(watched.seen["clean"], (t1, t2, high_pass(o, RADIUS)), strict=True):
        assert torch.equal(seen, view)
    network, memory = parts_of(objective)
    contrast = slow_contrast([network(o), *(memory.clean(view) for view in (t1, t2, high_pass(o, RADIUS)))])
    expected = contrast + 0.2 * slow_labels(memory.labels(o), LABELS)
    torch.testing.assert_close(watched.loss, expected, rtol=0, atol=1e-12)


def test_the_attacks_raise_their_terms():
    apart, mild = Watched(objective_of()), Watched(objective_of(eps=0.0))
    for parts in (parts_of(objective_of()),):
        network, memory = (part.eval() for part in parts)
        still = [memory.clean(view) for view in mild.seen["clean"]]
        contrasts = [slow_contrast([network(case.attacked), *still]) for case in (mild, apart)]
        errors = [slow_labels(memory.labels(case.mistaken), LABELS) for case in (mild, apart)]
    assert contrasts[1] > contrasts[0]
    assert errors[1] > errors[0]


@pytest.mark.parametrize("attack_bn, attacks", [("eval", 0), ("batch", 0), ("train", 1)])
def test_each_branch_moves_its_own_statistics_and_the_projector_those_of_all_contrasted_views(attack_bn, attacks):
    objective = objective_of(attack_bn=attack_bn, steps=2)
    network, memory = parts_of(objective)
    losses_of_memory(objective, network, memory)
    moved = [branch.encoder[1].num_batches_tracked for branch in (network, memory.clean, memory.labels)]
    # The clean branch is asked once, not at each step of the attack.
    assert moved == [1 + 2 * attacks, 3 + 3 * attacks, 1 + 2 * attacks]
    assert network.head.norm.num_batches_tracked == 4 + 5 * attacks
    assert memory.clean.head.norm.running_mean is network.head.norm.running_mean
    assert memory.clean.head.norm.weight is network.head.norm.weight
    assert memory.clean.encoder[1].weight is not network.encoder[1].weight
    assert memory.labels.encoder[1].weight is not network.encoder[1].weight
    assert memory.labels.encoder[0].weight is network.encoder[0].weight


def losses_of_memory(objective, network, memory):
    return list(objective.losses(network, memory, batch_with(LABELS)))


def test_it_takes_38_passes_an_image():
    objective = objective_of()
    network, memory = parts_of(objective)
    passes = []

    def count(branch, given, outputs):
        passes.append(1)
        if outputs.requires_grad:
            back = 2 if any(parameter.requires_grad for parameter in branch.parameters()) else 1
            outputs.register_hook(lambda _: passes.append(back))

    for branch in (network, memory.clean, memory.labels):
        branch.register_forward_hook(count)
    for loss in losses_of_memory(objective, network, memory):
        loss.backward()
    assert sum(passes) == 38


def test_one_column_of_labels_needs_no_second_dimension():
    objective = objective_of()
    column = Watched(objective, LABELS[:, :1], parts_of(objective, (2,)))
    flat = Watched(objective, LABELS[:, 0], parts_of(objective, (2,)))
    assert torch.equal(column.loss, flat.loss)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"scale": -1.0},
        {"label_weight": float("nan")},
        {"radius": -1.0},
        {"padding": -1},
        {"flip": 1.5},
        {"steps": 0},
        {"hidden": 0},
    ],
    ids=str,
)
def test_an_option_outside_its_range_is_a_usage_error(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        AdvCL(**options)
