from __future__ import annotations

import pytest
import torch
from linear_models import count_calls
from tiny_runs import QUIET
from torch import nn

from rushkit import noises
from rushkit.errors import UsageError
from rushkit.smoothing import SmoothedClassifier
from rushkit.speed import bench as module
from rushkit.speed.bench import attack_contestants, bench, estimate, race
from rushkit.speed.figures import Benchmark, Cost, Estimate, Row
from rushkit.system import Machine

CPU = torch.device("cpu")


def test_every_part_is_measured_and_the_estimate_follows(tiny):
    recipe = tiny("data.limit=40", "pretrain.batch_size=16", "pretrain.epochs=3")
    measured = bench(recipe, 0.1, QUIET)
    assert [row.part for row in measured.rows] == ["views", "training", "attack", "votes"]
    assert all(row.per_second > 0 and row.bare_per_second > 0 for row in measured.rows)
    assert measured.estimate.epochs == 3
    assert measured.estimate.seconds == pytest.approx(3 * measured.estimate.seconds_an_epoch)
    assert measured.memory_bytes > 0


def test_a_training_with_a_teacher_is_measured_with_another_one_in_its_place(tiny):
    measured = bench(tiny("pretrain.batch_size=16", "pretrain.steps=1", recipe="deacl-digits"), 0.1, QUIET)
    assert all(row.per_second > 0 for row in measured.rows)


@pytest.mark.parametrize("columns", [(), (2, 5)])
def test_a_training_on_clusters_is_measured_with_random_labels_in_their_place(tiny, columns):
    changes = "pretrain.batch_size=16", "pretrain.steps=1", f"pretrain.labels_clusters={list(columns)}"
    measured = bench(tiny(*changes, recipe="advcl-digits"), 0.1, QUIET)
    assert all(row.per_second > 0 for row in measured.rows)


def test_an_estimate_counts_full_batches_only(tiny):
    recipe = tiny("pretrain.batch_size=16", "pretrain.epochs=10")
    assert estimate(recipe, 40, 0.5) == Estimate(epochs=10, seconds_an_epoch=16.0, seconds=160.0)


def test_no_data_no_estimate(tiny, tmp_path):
    recipe = tiny("data.name=cifar10", "data.image_size=8", f"system.data_dir={tmp_path}")
    assert bench(recipe, 0.1, QUIET).estimate is None


def test_a_fraction_is_of_work_and_a_speed_of_the_clock():
    row = Row("votes", "samples/s", 10, "bf16", 64, Cost(4.0, 2.0), Cost(1.0, 1.0), Cost(9.0, 1.5), per_bare=20)
    assert row.plain() == {
        "part": "votes",
        "unit": "samples/s",
        "per_second": 2.5,
        "precision": "bf16",
        "batch": 64,
        "bare_per_second": 20,
        "fraction": 0.25,
        "fraction_alike": 0.75,
    }


def test_a_step_is_half_of_what_three_take_beyond_one_each_at_its_fastest(monkeypatch):
    costs = {"one": iter([9.0, 5.0, 7.0]), "three": iter([11.0, 14.0, 12.0])}
    calls = {name: lambda name=name: name for name in costs}

    def scripted(call, machine):
        seconds = next(costs[call()])
        return Cost(seconds, 10 * seconds)

    monkeypatch.setattr(module, "_cost", scripted)
    costs_at_best = race(calls, 0.0, Machine(CPU, "float32"))
    assert costs_at_best["one"].a_step(costs_at_best["three"]) == Cost(3.0, 30.0)


def test_attacks_of_three_steps_and_of_one_differ_by_two_steps_passes(monkeypatch):
    counted = []
    monkeypatch.setattr(SmoothedClassifier, "_count", count_calls(SmoothedClassifier._count, counted))
    x = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 10)).requires_grad_(False)
    # As good as constant: each vote would be close, and some closer after three steps than after one.
    nn.init.normal_(network[1].weight, std=1e-4, generator=torch.Generator().manual_seed(1))
    nn.init.zeros_(network[1].bias)
    noise, machine = noises.create("uniform", scale=0.3), Machine(CPU, "float32")
    contestants = attack_contestants(network, noise, x, 8, machine)
    passes = {}
    for name in ("one", "three"):
        counted.clear()
        contestants[name]()
        passes[name] = sum(counted)
    assert passes["three"] - passes["one"] == 2 * 6 * 8


def test_views_are_beside_two_a_training_step_and_the_estimate_is_by_the_clock(tiny, monkeypatch):
    costs = {"ours": Cost(wall=8.0, work=2.0), "bare float32": Cost(wall=4.0, work=1.0), "once": Cost(wall=1e-6)}
    costs |= {"one": Cost(wall=1.0, work=1.0), "three": Cost(wall=3.0, work=3.0)}
    monkeypatch.setattr(module, "race", lambda contestants, *_: costs)
    recipe = tiny("data.limit=40", "pretrain.batch_size=16", "pretrain.epochs=3")
    measured = bench(recipe, 20.0, QUIET)
    assert measured.batch == 16
    views, training, *_ = measured.rows
    assert (views.per_second, views.bare_per_second) == (2.0, 8.0)
    assert (training.per_second, training.bare_per_second, training.fraction) == (0.125, 0.25, 0.5)
    # Two full batches of 16 of the 40 images, 8 seconds each.
    assert measured.estimate == Estimate(epochs=3, seconds_an_epoch=16.0, seconds=48.0)


@pytest.mark.parametrize("batch", [4, 24])
def test_a_batch_that_is_asked_for_is_taken_and_stated(tiny, batch):
    """Below and above the recipe's 16 images; the draws of 8 an image are those of as many images as fill it."""
    measured = bench(tiny("data.limit=40", "pretrain.batch_size=16"), 0.1, QUIET, batch)
    assert (measured.batch, measured.recipe_batch) == (batch, 16)
    copies = max(1, batch // 8) * 8
    assert [(row.part, row.batch) for row in measured.rows] == [
        ("views", batch),
        ("training", batch),
        ("attack", copies),
        ("votes", copies),
    ]
    # The images of an epoch are those of the recipe's batches.
    assert measured.estimate.seconds_an_epoch == pytest.approx(32 / batch / measured.rows[1].per_second)


def test_a_batch_that_the_memory_does_not_hold_is_refused_before_anything_runs(tiny):
    with pytest.raises(
        UsageError, match=r"a training step on 1000000000 images takes about \d+\.\d GiB, and the device"
    ) as raised:
        bench(tiny("pretrain.batch_size=16"), 0.1, QUIET, 10**9)
    assert raised.value.hint.startswith("at most --batch ")


def test_in_bf16_a_row_stands_beside_float32_and_beside_its_own_precision(tiny):
    measured = bench(tiny("pretrain.batch_size=16", "system.precision=bf16"), 0.1, QUIET)
    views, *others = measured.rows
    assert (views.precision, views.fraction_alike) == ("float32", None)
    assert [row.precision for row in others] == ["bf16"] * 3
    assert all(row.fraction_alike > 0 for row in others)
    whole = bench(tiny("pretrain.batch_size=16"), 0.1, QUIET)
    assert [(row.precision, row.fraction_alike) for row in whole.rows] == [("float32", None)] * 4


def test_the_bare_passes_of_a_step_are_those_of_all_its_networks(tiny):
    """The step of DeACL passes through its teacher, too."""
    recipe = tiny("pretrain.batch_size=16", "pretrain.steps=1", recipe="deacl-digits")
    job, _ = module.bench_job(recipe, Machine(CPU, "float32"))
    _, seen = module.step_contestants(job, Machine(CPU, "float32"))
    passes = [(each.network is job.network, each.kind, len(each.x)) for group in seen.groups for each in group]
    assert (False, "forward", 16) in passes
    assert sum(ours for ours, *_ in passes) == len(passes) - 1


def timed(machine: str = "cpu, float32") -> Benchmark:
    row = Row("votes", "samples/s", 10, "bf16", 64, Cost(4.0, 2.0), Cost(1.0, 1.0), Cost(9.0, 1.5), per_bare=20)
    return Benchmark("digits", machine, 8, 16, (row,), 2**30, Estimate(3, 16.0, 48.0))


def test_a_benchmark_is_a_table_in_a_notebook():
    html = timed("<b>cpu")._repr_html_()
    assert ">2.5 samples/s</td>" in html
    assert "3 epochs of digits: 48 s on this device, 16 s an epoch" in html
    assert "the recipe&#39;s batch is 16" in html


def test_a_benchmark_has_its_speeds_and_shares_as_rows():
    values = {row["figure"]: row["value"] for row in timed().to_rows()}
    assert values == {
        "speed": 2.5,
        "bare_speed": 20.0,
        "share_of_bare": 0.25,
        "share_of_bare_alike": 0.75,
        "peak_memory": 2.0**30,
        "pretraining_seconds": 48.0,
    }


def test_the_plain_repr_of_a_benchmark_is_one_line():
    assert repr(timed()) == "Benchmark('digits', 1 parts, batch 8, cpu, float32)"
