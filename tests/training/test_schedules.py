from __future__ import annotations

import pytest
from tiny_runs import finetuned

from rushkit.recipe.schema import Pretrain
from rushkit.run.metrics import read_metrics
from rushkit.training.schedule import rate_of_step


def settings(kind=Pretrain, **schedule):
    lr = schedule.pop("lr", 0.5)
    epochs = schedule.pop("epochs", 10)
    return kind.model_validate({"epochs": epochs, "optimizer": {"lr": lr}, "schedule": schedule})


def test_a_cosine_starts_at_lr_ends_at_min_lr_and_is_half_way_in_the_middle():
    cosine = settings(min_lr=0.1, epochs=3)
    rates = [rate_of_step(cosine, step, 7) for step in range(21)]
    assert rates[0] == 0.5
    assert rates[-1] == pytest.approx(0.1, abs=1e-12)
    assert rates[10] == pytest.approx(0.3, abs=1e-12)
    assert rates == sorted(rates, reverse=True)
    assert all(rates[step] + rates[20 - step] == pytest.approx(0.6) for step in range(21))


def test_warmup_is_linear_and_ends_at_lr():
    warm = settings(min_lr=0.0, warmup_epochs=2, epochs=5)
    rates = [rate_of_step(warm, step, 4) for step in range(20)]
    assert rates[:8] == pytest.approx([0.5 * (step + 1) / 8 for step in range(8)])
    assert rates[7] == rates[8] == 0.5
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


def test_a_warmup_from_a_rate_begins_with_it_and_reaches_lr_where_the_cosine_begins():
    warm = settings(lr=1.5, min_lr=0.0, warmup_epochs=10, warmup_from=0.1, epochs=12, per="epoch")
    rates = [rate_of_step(warm, step, 3) for step in range(36)]
    assert rates[::3] == pytest.approx([*(0.1 + 0.14 * epoch for epoch in range(10)), 1.5, 0.0], abs=1e-12)
    assert rates[0] == rates[2] == 0.1
    each_step = settings(lr=0.5, warmup_epochs=2, warmup_from=0.1, epochs=5)
    rates = [rate_of_step(each_step, step, 4) for step in range(9)]
    assert rates == pytest.approx([0.1 + 0.05 * step for step in range(9)], abs=1e-12)


def test_a_warmup_from_above_lr_does_not_start_above_it():
    low = settings(lr=0.05, min_lr=0.01, warmup_epochs=2, warmup_from=0.1, epochs=5)
    assert [rate_of_step(low, step, 4) for step in range(9)] == [0.05] * 9


def test_a_warmup_as_long_as_the_training_has_no_cosine():
    warm = settings(warmup_epochs=9, epochs=3)
    rates = [rate_of_step(warm, step, 4) for step in range(12)]
    assert rates == pytest.approx([0.5 * (step + 1) / 36 for step in range(12)])


def test_per_epoch_the_rate_stays_within_each():
    stairs = settings(min_lr=0.1, epochs=5, per="epoch", warmup_epochs=1)
    rates = [rate_of_step(stairs, step, 3) for step in range(15)]
    assert all(len(set(rates[3 * epoch : 3 * epoch + 3])) == 1 for epoch in range(5))
    assert rates[::3] == pytest.approx([0.5, 0.5, 0.4, 0.2, 0.1])


def test_a_constant_rate_and_a_single_step():
    assert {rate_of_step(settings(name="constant"), step, 3) for step in range(30)} == {0.5}
    assert rate_of_step(settings(epochs=1), 0, 1) == 0.5


def test_min_lr_above_lr_does_not_raise_the_rate():
    low = settings(lr=0.0001, min_lr=0.001)
    assert {rate_of_step(low, step, 3) for step in range(30)} == {0.0001}


def test_steps_fall_by_the_factor_at_each_share_of_the_run():
    stairs = settings(name="steps", milestones=[0.6, 0.8], epochs=25)
    rates = [rate_of_step(stairs, step, 3) for step in range(75)]
    assert rates == pytest.approx([0.5] * 45 + [0.05] * 15 + [0.005] * 15, rel=1e-12)
    thirds = settings(name="steps", milestones=["1/3", "2/3"], factor=0.5, epochs=9, per="epoch", warmup_epochs=1)
    rates = [rate_of_step(thirds, step, 2) for step in range(18)]
    assert rates == [0.5] * 6 + [0.25] * 6 + [0.125] * 6
    warm = settings(name="steps", epochs=4, warmup_epochs=1)
    rates = [rate_of_step(warm, step, 4) for step in range(16)]
    assert rates == pytest.approx([0.125, 0.25, 0.375, 0.5, *[0.5] * 4, *[0.05] * 4, *[0.005] * 4])


@pytest.mark.parametrize("per", ["step", "epoch"])
def test_a_triangle_rises_from_zero_and_falls_back_to_it(per):
    roof = settings(name="triangle", epochs=6, per=per)
    rates = [rate_of_step(roof, step, 5) for step in range(30)]
    assert rates == pytest.approx(rates[::-1])
    assert sum(rates) == pytest.approx(30 * 0.5 / 2)
    # The line through the middles of the steps meets 0 at the ends and the peak in the middle of the run.
    first, second = rates[0], rates[5] if per == "epoch" else rates[1]
    assert second == pytest.approx(3 * first)
    assert first == pytest.approx(0.5 / (6 if per == "epoch" else 30))
    assert rate_of_step(settings(name="triangle", epochs=5), 2, 1) == 0.5


def test_the_metrics_hold_the_scheduled_rates(tiny):
    recipe = tiny()
    lines = read_metrics(finetuned(recipe, None).path / "metrics.jsonl")
    rates = [line["lr"] for line in lines if line["kind"] == "step"]
    assert rates == [rate_of_step(recipe.finetune, step, 3) for step in range(6)]
    assert rates[0] == recipe.finetune.optimizer.lr
