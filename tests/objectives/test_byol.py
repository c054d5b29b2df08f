"""``byol``: its distance, its target that follows, and three steps written out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from batches import batch_of, plain64
from byol_parts import WIDTHS, blurred, images_of, losses_of_first_step, made, same, slow_byol, stepped
from tiny_runs import checkpoint_of, pretrained
from torch import nn
from torchvision.models import resnet18

from rushkit.errors import UsageError
from rushkit.objectives.byol import Byol, byol_loss, target_share
from rushkit.run.metrics import read_metrics


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestDistance:
    def test_it_is_two_less_two_cosines(self):
        p, z = draw(50, 4), draw(50, 4, seed=1)
        expected = 2 - 2 * torch.nn.functional.cosine_similarity(p, z)
        torch.testing.assert_close(byol_loss(p, z), expected, rtol=0, atol=1e-12)
        assert byol_loss(p, z).amin() > 0
        assert byol_loss(p, z).amax() < 4

    def test_it_is_zero_for_parallel_rows_alone_and_four_for_opposite_ones(self):
        p, scale = draw(50, 4), draw(50, 1, seed=1).abs()
        assert byol_loss(p, scale * p).amax() < 1e-30
        torch.testing.assert_close(byol_loss(p, -scale * p), torch.full((50,), 4.0).double(), rtol=0, atol=1e-12)
        assert byol_loss(p, p + 1e-6 * draw(50, 4, seed=2)).amin() > 1e-14

    @pytest.mark.parametrize("scale", [1e-200, 1e-3, 7.0, 1e200])
    def test_the_scale_of_either_side_does_not_matter(self, scale):
        p, z = draw(50, 4), draw(50, 4, seed=1)
        torch.testing.assert_close(byol_loss(scale * p, z), byol_loss(p, z), rtol=0, atol=1e-12)
        torch.testing.assert_close(byol_loss(p, scale * z), byol_loss(p, z), rtol=0, atol=1e-12)

    def test_no_gradient_reaches_the_target_and_that_of_the_prediction_is_the_cosines(self):
        p, z = draw(50, 4).requires_grad_(), draw(50, 4, seed=1).requires_grad_()
        (mine,) = torch.autograd.grad(byol_loss(p, z).sum(), p)
        (expected,) = torch.autograd.grad(-2 * torch.nn.functional.cosine_similarity(p, z).sum(), p)
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-12)
        assert not torch.autograd.grad(byol_loss(p, z).sum(), z, allow_unused=True)[0]

    def test_it_is_computed_in_float32_under_autocast(self):
        p, z = draw(8, 64).bfloat16(), draw(8, 64, seed=1).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            distances = byol_loss(p, z)
        assert distances.dtype is torch.float32
        torch.testing.assert_close(distances.double(), byol_loss(p.double(), z.double()), rtol=0, atol=1e-5)


class TestTarget:
    def test_its_share_rises_to_one_along_half_a_cosine(self):
        assert [target_share(0.9, k / 4) for k in range(5)] == pytest.approx(
            [0.9, 1 - 0.1 * (2 + 2**0.5) / 4, 0.95, 1 - 0.1 * (2 - 2**0.5) / 4, 1]
        )

    def test_beside_a_network_that_stands_still_it_comes_nearer_by_tau_a_step(self):
        objective = Byol(tau=0.99, **WIDTHS)
        network, memory = made(objective)
        for xi in memory["target"].parameters():
            xi.data += 1
        for _ in range(50):
            losses_of_first_step(objective, network, memory)
        for xi, theta in zip(memory["target"].parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(xi - theta, torch.full_like(theta, 1 - 0.3949939), rtol=0, atol=1e-7)

    def test_it_follows_after_the_step_and_not_before(self):
        objective = Byol(tau=0.25, **WIDTHS)
        network, memory = made(objective)
        before = copy.deepcopy(memory["target"])
        steps = objective.losses(network, memory, batch_of(images_of(), views=blurred, epoch=0))
        next(steps)
        for xi, old in zip(memory["target"].parameters(), before.parameters(), strict=True):
            assert torch.equal(xi, old)
        with torch.no_grad():
            for theta in network.parameters():
                theta += 1
        assert next(steps, None) is None
        for xi, old in zip(memory["target"].parameters(), before.parameters(), strict=True):
            torch.testing.assert_close(xi, old + 0.75, rtol=0, atol=1e-12)

    def test_it_shares_nothing_with_the_network_and_gets_no_gradient(self):
        objective = Byol(**WIDTHS)
        network, memory = made(objective)
        held = {tensor.data_ptr() for tensor in network.state_dict().values()}
        assert not held & {tensor.data_ptr() for tensor in memory.state_dict().values()}
        (loss,) = losses_of_first_step(objective, network, memory)
        loss.backward()
        assert all(xi.grad is None and not xi.requires_grad for xi in memory["target"].parameters())
        assert all(theta.grad is not None for theta in memory["predictor"].parameters())

    @pytest.mark.parametrize(("joint", "passes"), [(False, 2), (True, 1)])
    def test_batch_norm_of_both_branches_moves_once_a_pass_by_statistics_of_its_own(self, joint, passes):
        objective = Byol(joint_forward=joint, **WIDTHS)
        network, memory = made(objective)
        with torch.no_grad():
            memory["target"].encoder[0].weight.mul_(2)
        losses_of_first_step(objective, network, memory)
        mine, of_target = network.encoder[1], memory["target"].encoder[1]
        assert mine.num_batches_tracked == of_target.num_batches_tracked == passes
        torch.testing.assert_close(of_target.running_mean, 2 * mine.running_mean, rtol=0, atol=1e-12)
        assert of_target.training

    def test_it_is_in_train_mode_even_if_the_network_that_it_copies_is_not(self):
        objective = Byol(**WIDTHS)
        network, _ = made(objective)
        memory = objective.attach(network.eval(), (6, 3, 8, 8))
        assert all(module.training for module in memory.modules())


def test_equal_branches_and_views_leave_no_loss_and_no_gradient():
    objective = Byol(**WIDTHS)
    network, memory = made(objective)
    memory["predictor"] = nn.Identity()
    (loss,) = losses_of_first_step(objective, network, memory, views=plain64)
    loss.backward()
    assert loss == 0
    assert all((theta.grad == 0).all() for theta in network.parameters())


@pytest.mark.parametrize("joint", [False, True])
def test_three_steps_are_those_that_are_written_out(joint):
    objective = Byol(tau=0.6, joint_forward=joint, **WIDTHS)
    network, memory = made(objective)
    slow_network, slow_memory = made(objective)
    losses = stepped(objective, network, memory, 3)
    expected, slow_target = slow_byol(slow_network, slow_memory["predictor"], 3, tau=0.6, joint=joint)
    assert losses == pytest.approx(expected, rel=0, abs=1e-12)
    assert len(set(losses)) == 3
    assert same(network, slow_network)
    assert same(memory["predictor"], slow_memory["predictor"])
    assert same(memory["target"], slow_target)
    assert not same(memory["target"], network, within=1e-3)


def test_the_spread_of_the_projections_is_noted():
    objective = Byol(**WIDTHS)
    network, memory = made(objective)
    batch = batch_of(images_of(), views=blurred)
    list(objective.losses(network, memory, batch))
    assert 0 < batch.noted["spread"] < 1
    # Where all projections are one, they have collapsed.
    with torch.no_grad():
        memory["target"].head.out.weight.zero_()
    list(objective.losses(network, memory, batch))
    assert batch.noted["spread"].abs() < 1e-12


def test_both_views_have_the_strength_that_is_asked_for():
    class Weakening:
        """Views that note how weak they are made."""

        def __init__(self):
            self.asked = []

        def weakened(self, strength):
            self.asked.append(strength)
            return blurred

    views, objective = Weakening(), Byol(strength=0.25, **WIDTHS)
    losses_of_first_step(objective, *made(objective), views=views)
    assert views.asked == [0.25, 0.25]


def test_a_step_takes_the_passes_that_the_recipes_count():
    """Each view goes once through the network, with a backward pass, and once through the target, without: 2·3 + 2."""
    objective, passed = Byol(**WIDTHS), []
    network, memory = made(objective)
    for module in (network, memory["target"]):
        module.register_forward_hook(lambda module, _, out: passed.append((module, len(out), out.requires_grad)))
    losses_of_first_step(objective, network, memory)
    assert sum(3 * count for _, count, graded in passed if graded) == 6 * 6
    assert sum(count for _, count, graded in passed if not graded) == 2 * 6


def test_the_encoder_of_a_pretraining_opens_in_a_stock_resnet(tiny):
    recipe = tiny(
        "backbone.name=torchvision/resnet18", "pretrain.objective=byol", "data.image_size=32", "data.limit=4",
        "pretrain.batch_size=4", "pretrain.epochs=1", "noise.name=none", "pretrain.predictor_hidden=8",
        "pretrain.optimizer.momentum=0",
    )  # fmt: skip
    run = pretrained(recipe)
    saved = checkpoint_of(run).tensors
    model = resnet18()
    model.fc = nn.Identity()
    model.load_state_dict({name[8:]: tensor for name, tensor in saved.items() if name.startswith("encoder.")})
    # It is the network's, which has moved, and not the target's, which hardly has.
    assert not torch.equal(model.conv1.weight, saved["training.memory.target.encoder.conv1.weight"])
    assert model.bn1.num_batches_tracked == 2
    (row,) = [row for row in read_metrics(run.metrics.path) if row["kind"] == "epoch"]
    assert 0 <= row["knn_accuracy"] <= 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("tau", 1.1), ("tau", -0.1), ("tau", float("nan")), ("strength", 1.5), ("predictor_hidden", 0), ("out", 0)],
)
def test_what_cannot_be_is_a_usage_error(option, value):
    with pytest.raises(UsageError, match=option):
        Byol(**{option: value})
