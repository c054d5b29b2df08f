"""``dynacl``: k, the weight and a whole step are those of the formulas, and the network is k with its robust set."""

from __future__ import annotations

import pytest
import torch
from batches import batch_of
from contrasted import IMAGES, blurred, buffers, climbed, contrast, copied, drawn, graded, gradients, network_of, opened
from torch.nn.modules.batchnorm import _BatchNorm

from rushkit.errors import UsageError
from rushkit.models.backbones import resnet10_small
from rushkit.objectives.acl import Acl
from rushkit.objectives.dynacl import DynAcl
from rushkit.setup.start import machine_of
from rushkit.training.dry_run import dry_run
from rushkit.training.pretrain import pretraining_job

PROJECTOR = {"hidden": 6, "out": 4, "batch_norm": True, "layers": 3, "norm_out": True, "biases": "first"}
EPS, STEP = 0.03, 0.012
FIRST, SECOND, _ = drawn()
BOTH = torch.cat([FIRST, SECOND])
# A quarter of the run is done at half of the first of two epochs: five of twenty stages.
WEIGHT = 1 + 2 / 3 * 5 / 20


def dynacl(**options):
    return DynAcl(**PROJECTOR, **{"eps": EPS, "step_size": STEP, "steps": 3} | options)


def set_up(objective, apart=0.0):
    """A network and its memory; the learner is as far from what follows it as asked."""
    network = network_of(objective)
    memory = objective.attach(network, (len(IMAGES), 3, 8, 8))
    if objective.momentum_view:
        source = torch.Generator().manual_seed(1)
        moved = {id(part): part for key in ("learner", "clean_learner") for part in memory[key].parameters()}
        with torch.no_grad():
            for parameter in moved.values():
                parameter += apart * torch.randn(parameter.shape, dtype=torch.float64, generator=source)
    return network, memory


def branches(network, memory):
    """q and k with their adversarial sets, then with their clean ones."""
    return memory["learner"], network, memory["clean_learner"], memory["clean"]


def weights(*parts):
    return [{name: weight.detach().clone() for name, weight in part.named_parameters()} for part in parts]


def contrasted(q, k, x):
    first, second = x.chunk(2)
    return contrast(q(first), k(second))


@pytest.mark.parametrize("stage", range(20))
@pytest.mark.parametrize("within", [0, 0.999])
def test_weight_and_strength_change_in_stages(stage, within):
    progress = (stage + within) / 20
    assert dynacl().weight(progress) == pytest.approx(1 + 2 / 3 * stage / 20, abs=1e-15)
    assert dynacl().strength(progress) == pytest.approx(1 - stage / 20, abs=1e-15)


def test_they_change_with_the_first_step_of_a_stage():
    # 22 · (15 / 22) is a little less than 15.
    assert dynacl(stages=22, rise=1.0).weight(15 / 22) == 1 + 15 / 22
    assert dynacl(stages=22).strength(15 / 22) == 1 - 15 / 22
    assert dynacl(rise=0.0).weight(0.99) == 1
    assert dynacl(stages=1).strength(0.99) == 1


@pytest.mark.parametrize(("epoch", "strength"), [(0.0, None), (0.5, 0.75), (1.95, 0.05)])
def test_both_views_have_the_strength_of_the_stage(epoch, strength):
    asked = []

    def views(images, generator):
        asked.append(None)
        return blurred(images, generator)

    def weakened(strength):
        asked.append(strength)
        return blurred

    views.weakened = weakened
    network, memory = set_up(dynacl())
    next(dynacl().losses(network, memory, batch_of(IMAGES, views=views, epoch=epoch)))
    assert asked == pytest.approx([strength] * 2)


def test_k_follows_a_learner_that_stays_by_the_closed_form():
    objective = dynacl(tau=0.9, steps=1)
    network, memory = set_up(objective, apart=0.3)
    q, k, clean_q, clean_k = branches(network, memory)
    before, clean_before = weights(k, clean_k)
    for seed in range(5):
        graded(objective, network, memory, seed=seed)
    for start, follower, learner in ((before, k, q), (clean_before, clean_k, clean_q)):
        for name, weight in follower.named_parameters():
            theta = learner.get_parameter(name).detach()
            torch.testing.assert_close(weight - theta, 0.9**5 * (start[name] - theta), rtol=0, atol=1e-14)
            assert (start[name] - theta).abs().max() > 0.01


def test_k_follows_after_the_step():
    network, memory = set_up(dynacl(tau=0.75))
    q, k, _, _ = branches(network, memory)
    (before,) = weights(k)
    steps = dynacl(tau=0.75).losses(network, memory, drawn()[2])
    next(steps)
    assert all(torch.equal(weight, before[name]) for name, weight in k.named_parameters())
    with torch.no_grad():
        # The step of an optimizer.
        for parameter in q.parameters():
            parameter += 1
    assert next(steps, None) is None
    for name, weight in k.named_parameters():
        torch.testing.assert_close(weight, before[name] + 0.25, rtol=0, atol=1e-14)


def test_without_a_ball_it_is_nt_xent_against_a_frozen_copy_shared_out_among_the_sets():
    network, memory = set_up(dynacl(eps=0.0))
    plain, held = copied(memory["learner"], network)
    loss = graded(dynacl(eps=0.0), network, memory)
    expected = contrasted(plain, held, BOTH)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-12)
    adversarial, following, clean, _ = gradients(*branches(network, memory))
    assert set(following.values()) == {None}
    (whole,) = gradients(plain)
    sets = {name for name, layer in plain.named_modules() if isinstance(layer, _BatchNorm)}
    for name, gradient in whole.items():
        own = name.rpartition(".")[0] in sets
        for found, share in ((adversarial, WEIGHT / 2), (clean, 1 - WEIGHT / 2)):
            torch.testing.assert_close(found[name], gradient * (share if own else 1), rtol=0, atol=1e-12)


def test_a_step_is_that_of_the_formula():
    network, memory = set_up(dynacl(), apart=0.1)
    with torch.no_grad():
        # So that it matters which set sees which view.
        for part, factor in ((memory["clean_learner"], 1.5), (memory["clean"], 0.7)):
            for layer in part.modules():
                if isinstance(layer, _BatchNorm):
                    layer.weight.mul_(factor)
    slow = copied(*branches(network, memory))
    q, k, clean_q, clean_k = slow
    loss = graded(dynacl(), network, memory)
    q.eval()
    k.eval()
    start = EPS * drawn()[2].uniform(BOTH)
    moved = climbed(BOTH, lambda z: contrasted(q, k, z), start, EPS, STEP, 3)
    q.train()
    k.train()
    terms = contrasted(clean_q, clean_k, BOTH), contrasted(q, k, moved)
    expected = (1 - WEIGHT / 2) * terms[0] + WEIGHT / 2 * terms[1]
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-12)
    made = branches(network, memory)
    for index in (0, 2):
        torch.testing.assert_close(gradients(made[index]), gradients(slow[index]), rtol=0, atol=1e-11)
    # A pass of its own views each; the attack has moved no set.
    torch.testing.assert_close(buffers(*made), buffers(*slow), rtol=0, atol=1e-14)


def test_the_attack_moves_both_views_and_raises_the_loss():
    network, memory = set_up(dynacl(steps=5), apart=0.1)
    held = [part.eval() for part in copied(memory["learner"], network)]
    seen = {key: [] for key in ("first", "second")}
    memory["learner"].register_forward_pre_hook(lambda _, given: seen["first"].append(given[0].detach().clone()))
    network.register_forward_pre_hook(lambda _, given: seen["second"].append(given[0].detach().clone()))
    graded(dynacl(steps=5), network, memory)
    before, after = (contrasted(*held, torch.cat([seen["first"][at], seen["second"][at]])) for at in (0, -1))
    assert after > before + 0.01
    for views, clean in ((seen["first"], FIRST), (seen["second"], SECOND)):
        assert (views[-1] - clean).abs().amax(dim=(1, 2, 3)).min() > EPS / 2


@pytest.mark.parametrize("rise", [0.0, 2 / 3])
def test_without_a_momentum_view_it_is_acl_with_another_weight(rise):
    objective = dynacl(momentum_view=False, rise=rise)
    network, memory = set_up(objective)
    assert list(memory) == ["clean"]
    assert all(parameter.requires_grad for parameter in network.parameters())
    acl = Acl(**PROJECTOR, eps=EPS, step_size=STEP, steps=3)
    plain = network_of(acl)
    plain_memory = acl.attach(plain, (len(IMAGES), 3, 8, 8))
    loss, expected = graded(objective, network, memory), graded(acl, plain, plain_memory)
    if rise:
        assert (loss - expected).abs() > 1e-4
    else:
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
        for one, other in zip(network.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("momentum_view", "passes"), [(True, 2), (False, 4)])
def test_it_says_how_many_passes_it_keeps(momentum_view, passes):
    assert dynacl(momentum_view=momentum_view).kept_passes == passes


FEW = ("pretrain.objective=dynacl", "data.limit=12", "pretrain.batch_size=6", "pretrain.epochs=2", "pretrain.steps=1")


def test_a_checkpoint_opens_in_a_stock_resnet_and_gives_the_features_of_k_with_its_adversarial_set(tiny):
    recipe = tiny(*FEW, "backbone.name=resnet10-small", "pretrain.tau=0.5")
    stock, job = opened(recipe, resnet10_small())
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    features, product = stock.eval()(x), job.network.encoder.eval()(x)
    torch.testing.assert_close(features, product, rtol=0, atol=1e-5)
    others = [job.memory[key].encoder.eval()(x) for key in ("learner", "clean_learner", "clean")]
    assert min((features - other).abs().max() for other in others) > 1e-3


def test_the_learner_trains_and_the_network_follows(tiny):
    recipe = tiny(*FEW)
    job, _ = pretraining_job(recipe, machine_of(recipe))
    learner = [*job.memory["learner"].parameters()]
    assert {id(parameter) for parameter in job.trained} >= {id(parameter) for parameter in learner}
    assert not any(parameter.requires_grad for parameter in job.network.parameters())
    norms = sum(part.numel() for part in job.norms if part.requires_grad)
    # The learner, and its clean set: as many numbers as its other set has.
    trained = sum(parameter.numel() for parameter in learner) + norms // 2
    assert dry_run(job, machine_of(recipe)).parameters == f"{2 * trained:,}, of which {trained:,} train"


def test_what_the_branches_share_is_saved_once(tiny):
    job, _ = pretraining_job(tiny(*FEW), machine_of(tiny(*FEW)))
    saved = {name.rpartition(".")[0] for name in job.own_memory()}
    filters, norm = "encoder.0", "encoder.1"
    assert saved >= {f"{key}.{norm}" for key in ("learner", "clean_learner", "clean")} | {f"learner.{filters}"}
    assert not saved & {f"clean_learner.{filters}", f"clean.{filters}"}


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"tau": 1.1},
        {"tau": float("nan")},
        {"rise": -0.1},
        {"rise": 2.0},
        {"stages": 0},
        {"eps": 2.0},
        {"layers": 1},
    ],
)
def test_an_option_outside_its_range_is_a_usage_error(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        DynAcl(**options)
