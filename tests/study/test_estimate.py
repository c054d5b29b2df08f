"""What jobs cost: passes by arithmetic, and a time that is theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rushkit.errors import UsageError
from rushkit.speed.figures import Cost as SpeedCost
from rushkit.study import estimate
from rushkit.study.cost import Cost, total
from rushkit.study.estimate import Estimator
from rushkit.study.load import parse_study
from rushkit.study.make import make_plan
from rushkit.study.plan import Plan, Planned

IMAGES, EPOCHS = 64, 2
TEXT = f"""
schema = 1
title = "costs"
seeds = [0, 1]
set = {{ data.limit = {IMAGES}, pretrain.epochs = {EPOCHS}, finetune.epochs = {EPOCHS} }}
[[row]]
label = "A"
recipe = "digits"
[[row.stage]]
do = "pretrain"
[[row.stage]]
do = "finetune"
[[row.stage]]
do = "finetune"
label = "head"
from = "pretrain"
set = {{ finetune.freeze = "all" }}
[[row.stage]]
do = "evaluate"
from = "finetune"
limit = 10
samples = [1, 64]
[[row.stage]]
do = "certify"
from = "finetune"
limit = 10
skip = 3
samples = 1000
set = {{ certify.selection = 100 }}
[[row.stage]]
do = "attack"
from = "finetune"
type = "pgd"
protocols = ["paper"]
samples = [4]
limit = 8
set = {{ attack.0.steps = 5 }}
[[row.stage]]
do = "attack"
from = "finetune"
label = "attack of 9 steps"
type = "pgd"
protocols = ["paper"]
samples = [4]
limit = 8
set = {{ attack.0.steps = 9 }}
[[row.stage]]
do = "probe"
from = "pretrain"
limit = 6
steps = 7
[[row.stage]]
do = "cluster"
from = "pretrain"
clusters = [3]
split = "train"
[[row.stage]]
do = "audit"
from = "finetune"
[[row]]
label = "adversarial"
recipe = "cross-entropy-digits"
[[row.stage]]
do = "finetune"
set = {{ finetune.objective = "pgd-at", finetune.steps = 3, noise.name = "none" }}
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(parse_study(TEXT, Path("costs.toml")), Path("no-runs"))


@pytest.fixture(scope="module")
def counted() -> Estimator:
    """An estimator that takes no time of anything."""
    return Estimator(timed=False)


def job(plan: Plan, stage: str, row: str = "A", seed: int = 0) -> Planned:
    (name,) = (cell.job for cell in plan.cells if (cell.row, cell.seed, cell.stage) == (row, seed, stage))
    return plan.jobs[name]


@pytest.mark.parametrize(
    ("row", "stage", "passes"),
    [
        # Two views, each forward and backward to the weights.
        ("A", "pretrain", IMAGES * EPOCHS * 2 * 3),
        # To the biases of the encoder, it goes as far back as to its weights.
        ("A", "finetune", IMAGES * EPOCHS * 3),
        # No pass goes back through an encoder that stays as it is.
        ("A", "head", IMAGES * EPOCHS),
        # Three steps of the attack to the input, then one to the weights.
        ("adversarial", "finetune", IMAGES * EPOCHS * (3 * 2 + 3)),
        ("A", "evaluate", 10 * (1 + 64)),
        # Ten of every third image.
        ("A", "certify", 10 * (1000 + 100)),
        # Two encoders; each step of the ascent is three passes.
        ("A", "probe", 6 * 2 * 7 * 3),
        ("A", "cluster", IMAGES),
    ],
)
def test_passes_are_counted(plan, counted, row, stage, passes):
    assert counted.cost(job(plan, stage, row).job) == Cost(passes)


def test_a_step_of_an_attack_is_a_pass_forward_and_one_back_for_each_draw(plan, counted):
    few, many = (counted.cost(job(plan, name).job).passes for name in ("attack", "attack of 9 steps"))
    assert many - few == 8 * 4 * 2 * (9 - 5)


def test_nobody_knows_the_passes_of_an_audit(plan, counted):
    assert counted.cost(job(plan, "audit").job) == Cost()


def test_another_seed_is_not_counted_again(plan, counted, monkeypatch):
    cost = counted.cost(job(plan, "evaluate", seed=0).job)
    monkeypatch.setattr(counted, "_passes", None)
    assert counted.cost(job(plan, "evaluate", seed=1).job) is cost


def test_the_time_of_a_network_is_taken_once(plan, monkeypatch):
    timed: list[str] = []

    def half_a_second(recipe) -> float:
        timed.append(recipe.backbone.name)
        return 0.5

    monkeypatch.setattr(estimate, "_seconds_a_pass", half_a_second)
    estimator = Estimator()
    for stage in ("evaluate", "certify", "probe"):
        cost = estimator.cost(job(plan, stage).job)
        assert cost.seconds == 0.5 * cost.passes
    assert len(timed) == 1


def test_a_network_that_cannot_be_timed_has_passes_alone(plan, monkeypatch):
    def refuse(recipe) -> float:
        raise UsageError("no such device", "choose another")

    monkeypatch.setattr(estimate, "_seconds_a_pass", refuse)
    assert Estimator().cost(job(plan, "evaluate").job) == Cost(650)


def test_a_pass_takes_time(plan):
    cost = Estimator().cost(job(plan, "evaluate").job)
    assert cost.seconds > 0


def test_of_a_cpu_a_pass_is_timed_by_its_work_over_all_threads(plan, monkeypatch):
    monkeypatch.setattr(estimate, "race", lambda *given: {"once": SpeedCost(wall=90.0, work=3.0)})
    monkeypatch.setattr(estimate.torch, "get_num_threads", lambda: 2)
    estimator = Estimator()
    cost = estimator.cost(job(plan, "evaluate").job)
    # Three seconds of processor time for two images, on two threads.
    assert cost == Cost(650, 650 * 0.75)
    assert estimator.assumes == (
        "times assume that nothing else runs here; of a CPU they are processor time, with 2 threads at work"
    )


def test_without_times_nothing_is_assumed(plan, counted):
    counted.cost(job(plan, "evaluate").job)
    assert counted.assumes == ""


def test_images_that_are_not_here_are_neither_counted_nor_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHKIT_DATA", str(tmp_path))
    monkeypatch.setattr("rushkit.data.cifar.Cifar.split", None)
    text = TEXT.partition("[[row]]")[0].replace("data.limit = 64, ", "") + (
        '[[row]]\nlabel = "A"\nrecipe = "cifar10"\n[[row.stage]]\ndo = "pretrain"\n'
    )
    plan = make_plan(parse_study(text, Path("costs.toml")), Path("no-runs"))
    assert Estimator().cost(job(plan, "pretrain").job) == Cost()


def test_a_sum_without_every_time_has_none():
    assert total([Cost(3, 1.0), Cost(4), Cost()]) == (Cost(7), 1)
    assert total([Cost(3, 1.0), Cost(4, 2.0)]) == (Cost(7, 3.0), 0)
