"""``acl``: its terms, attack and two BatchNorm sets are those of the formula, and the network is the robust branch."""

from __future__ import annotations

import pytest
import torch
from contrasted import IMAGES, buffers, climbed, contrast, copied, drawn, graded, gradients, network_of, opened
from tiny_runs import pretrained
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rushkit.errors import UsageError
from rushkit.models.backbones import resnet10_small
from rushkit.objectives.acl import Acl
from rushkit.objectives.nt_xent import SimCLR
from rushkit.run.metrics import read_metrics

PROJECTOR = {"hidden": 6, "out": 4, "batch_norm": True, "layers": 3, "norm_out": True, "biases": "first"}
EPS, STEP = 0.03, 0.012
FIRST, SECOND, _ = drawn()
BOTH = torch.cat([FIRST, SECOND])


def acl(**options):
    return Acl(**PROJECTOR, **{"eps": EPS, "step_size": STEP, "steps": 3} | options)


def set_up(objective):
    network = network_of(objective)
    memory = objective.attach(network, (len(IMAGES), 3, 8, 8))
    return network, memory


def start(x):
    return EPS * drawn()[2].uniform(x)


def norms(branch):
    return [name for name, layer in branch.named_modules() if isinstance(layer, _BatchNorm)]


def test_without_a_ball_it_is_simclr_with_half_of_the_gradient_for_each_batch_norm_set():
    network, memory = set_up(acl(eps=0.0))
    plain = network_of(acl())
    loss = graded(acl(eps=0.0), network, memory)
    expected = graded(SimCLR(**PROJECTOR), plain, nn.Module())
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    adversarial, clean, whole = gradients(network, memory["clean"], plain)
    layers = norms(plain)
    assert len(layers) == 4
    for name, gradient in whole.items():
        if name.rpartition(".")[0] in layers:
            assert gradient.abs().max() > 1e-6
            torch.testing.assert_close(adversarial[name], gradient / 2, rtol=0, atol=1e-12)
            torch.testing.assert_close(clean[name], gradient / 2, rtol=0, atol=1e-12)
        else:
            assert clean[name] is adversarial[name]
            torch.testing.assert_close(adversarial[name], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batches", [1, 4])
def test_the_clean_set_has_the_statistics_of_simclr_bit_for_bit(batches):
    (network, memory), plain = set_up(acl()), network_of(acl())
    for seed in range(batches):
        images = IMAGES + 8 * seed
        graded(acl(), network, memory, images, seed)
        graded(SimCLR(**PROJECTOR), plain, nn.Module(), images, seed)
    adversarial, clean, expected = buffers(network, memory["clean"], plain)
    assert all(torch.equal(clean[name], tensor) for name, tensor in expected.items())
    assert any(not torch.equal(adversarial[name], tensor) for name, tensor in expected.items())


def test_loss_gradients_and_statistics_are_those_of_the_formula():
    network, memory = set_up(acl())
    slow, slow_clean = copied(network, memory["clean"])
    loss = graded(acl(), network, memory)
    slow.eval()
    moved = climbed(BOTH, lambda z: contrast(*slow(z).chunk(2)), start(BOTH), EPS, STEP, 3)
    slow.train()
    expected = contrast(*slow_clean(BOTH).chunk(2)) / 2 + contrast(*slow(moved).chunk(2)) / 2
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients(network, memory["clean"]), gradients(slow, slow_clean), rtol=0, atol=1e-11)
    # A pass of the loss each: the attack has moved neither set.
    torch.testing.assert_close(buffers(network, memory["clean"]), buffers(slow, slow_clean), rtol=0, atol=1e-14)
    # Every pixel of both views may move: the views are attacked together.
    assert (moved - BOTH).abs().amin(dim=(1, 2, 3)).max() > 0


def test_the_adversarial_stream_is_the_second_term_and_needs_no_twin():
    objective = acl(stream="adversarial")
    network, memory = set_up(objective)
    assert list(memory.state_dict()) == []
    (slow,) = copied(network)
    loss = graded(objective, network, memory)
    slow.eval()
    moved = climbed(BOTH, lambda z: contrast(*slow(z).chunk(2)), start(BOTH), EPS, STEP, 3)
    slow.train()
    torch.testing.assert_close(loss, contrast(*slow(moved).chunk(2)).detach(), rtol=0, atol=1e-12)


def test_the_single_stream_attacks_one_view_against_the_other_one_seen_by_the_clean_branch():
    objective = acl(stream="single")
    network, memory = set_up(objective)
    with torch.no_grad():
        # So that it matters whose BatchNorm sees which view.
        for name in norms(network):
            memory["clean"].get_submodule(name).weight.mul_(1.5)
    slow, slow_clean = copied(network, memory["clean"])
    loss = graded(objective, network, memory)
    slow.eval()
    slow_clean.eval()
    target = slow_clean(SECOND).detach()
    moved = climbed(FIRST, lambda z: contrast(slow(z), target), start(FIRST), EPS, STEP, 3)
    slow.train()
    slow_clean.train()
    expected = contrast(slow(moved), slow_clean(SECOND))
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients(network, memory["clean"]), gradients(slow, slow_clean), rtol=0, atol=1e-11)
    torch.testing.assert_close(buffers(network, memory["clean"]), buffers(slow, slow_clean), rtol=0, atol=1e-14)


@pytest.mark.parametrize("stream", ["dual", "adversarial", "single"])
def test_the_attack_raises_the_loss(stream):
    """It would fall if a sign were wrong."""
    network, memory = set_up(acl())
    network.eval()
    seen = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    graded(acl(stream=stream, steps=5), network, memory)
    first, last = seen[0], seen[-1]
    pairs = [(x, SECOND) if stream == "single" else x.chunk(2) for x in (first, last)]
    before, after = (contrast(network(one), network(other)) for one, other in pairs)
    assert after > before + 0.01


@pytest.mark.parametrize(("stream", "passes"), [("dual", 4), ("adversarial", 2), ("single", 2)])
def test_it_says_how_many_passes_it_keeps(stream, passes):
    assert acl(stream=stream).kept_passes == passes


def test_both_terms_are_noted(tiny):
    run = pretrained(tiny("pretrain.objective=acl", "pretrain.epochs=1", "pretrain.knn.every=0"))
    steps = [row for row in read_metrics(run.metrics.path) if row["kind"] == "step"]
    assert steps
    for row in steps:
        assert row["loss"] == pytest.approx((row["clean_loss"] + row["adversarial_loss"]) / 2, abs=1e-5)


def test_a_checkpoint_opens_in_a_stock_resnet_and_gives_the_adversarial_features(tiny):
    few = ("data.limit=12", "pretrain.batch_size=6", "pretrain.epochs=2", "pretrain.steps=1")
    stock, job = opened(tiny("pretrain.objective=acl", "backbone.name=resnet10-small", *few), resnet10_small())
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    features, robust, clean = (part.eval()(x) for part in (stock, job.network.encoder, job.memory["clean"].encoder))
    torch.testing.assert_close(features, robust, rtol=0, atol=1e-5)
    assert (features - clean).abs().max() > 1e-2


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_0_is_a_usage_error(temperature):
    with pytest.raises(UsageError, match="temperature"):
        Acl(temperature=temperature)


@pytest.mark.parametrize("options", [{"eps": 2.0}, {"steps": 0}, {"layers": 1}])
def test_options_of_attack_and_projector_are_checked(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Acl(**options)
