from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from tiny_runs import QUIET, checkpoint_of, die, finetuned, folder_of_images, pretrained

from rushkit.errors import CheckpointError, DataError, Interrupted, NumericsError, UsageError
from rushkit.recipe.load import load_recipe
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.setup import components
from rushkit.setup.start import machine_of, start_run
from rushkit.training import loop
from rushkit.training import pretrain as pretrain_stage
from rushkit.training.finetune import finetune, finetuning_job
from rushkit.training.pretrain import pretrain, pretraining_job
from rushkit.training.validation import HeldOut

pytestmark = pytest.mark.usefixtures("untouched_global_state")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_pretraining_writes_its_run(tiny):
    run = pretrained(tiny())
    results = json.loads((run.path / "results.json").read_text())
    assert results["stage"] == "pretrain"
    assert 0 <= results["knn_accuracy"] <= 1
    assert results["knn_protocol"] == {
        "k": 5,
        "temperature": 0.1,
        "bank": "48 clean images of digits/train",
        "queries": "48 clean images of digits/test",
        "use": "shown only; nothing is chosen by it",
    }
    lines = read_metrics(run.path / "metrics.jsonl")
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if line["kind"] == "epoch"] == [3, 6]
    mean = sum(line["loss"] for line in lines if line["kind"] == "step" and line["epoch"] == 2) / 3
    assert results["loss"] == mean == lines[-1]["loss"]
    saved = checkpoint_of(run)
    assert saved.meta["stage"] == "pretrain"
    assert {name.partition(".")[0] for name in saved.tensors} >= {"encoder", "projector"}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny):
    first, second, other = (checkpoint_of(pretrained(tiny(f"system.seed={seed}"))).tensors for seed in (0, 0, 1))
    assert same(first, second)
    assert not torch.equal(first["encoder.0.weight"], other["encoder.0.weight"])


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_fine_tuning_changes_of_the_encoder_only_batchnorm_biases_and_statistics(tiny, bn):
    before = checkpoint_of(pretrained(tiny()))
    run = finetuned(tiny(f"finetune.bn={bn}"), before)
    after = checkpoint_of(run)
    changed = {
        name
        for name, tensor in before.tensors.items()
        if name.startswith("encoder.") and not torch.equal(tensor, after.tensors[name])
    }
    statistics = {"encoder.1.running_mean", "encoder.1.running_var", "encoder.1.num_batches_tracked"}
    assert changed == {"encoder.1.bias"} | (statistics if bn == "train" else set())
    results = json.loads((run.path / "results.json").read_text())
    assert [name for name in results["trainable"] if name.startswith("encoder.")] == ["encoder.1.bias"]
    assert results["source"] == str(before.path)
    assert results["loaded"] == sum(name.startswith("encoder.") for name in before.tensors)


def test_whole_network_fine_tuning_changes_every_parameter(tiny):
    before = checkpoint_of(pretrained(tiny()))
    after = checkpoint_of(finetuned(tiny("finetune.freeze=none"), before))
    kept = [
        name
        for name, tensor in before.tensors.items()
        if name.startswith("encoder.") and torch.equal(tensor, after.tensors[name])
    ]
    assert kept == []


def test_a_supervised_baseline_starts_from_random_weights(tiny):
    run = finetuned(tiny("finetune.freeze=none", "finetune.augment=crop-flip"), None)
    results = json.loads((run.path / "results.json").read_text())
    assert (results["source"], results["loaded"]) == (None, 0)


@pytest.mark.parametrize("stage", [pretrained, finetuned])
def test_every_step_of_every_epoch_has_draws_of_its_own(tiny, monkeypatch, stage):
    seeds, original = [], loop.train_batch

    def noted(batch, *rest):
        seeds.append(batch.source.initial_seed())
        return original(batch, *rest)

    monkeypatch.setattr(loop, "train_batch", noted)
    stage(*([tiny()] if stage is pretrained else [tiny(), None]))
    assert len(set(seeds)) == len(seeds) >= 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_pretraining_stopped_by_a_signal_and_resumed_ends_bit_for_bit_the_same(tiny, at_step, number, step):
    recipe = tiny()
    whole = pretrained(recipe)
    at_step(step, lambda: os.kill(os.getpid(), number))
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises(Interrupted, match=f"stopped at step {step} of 6") as raised, run:
        pretrain(recipe, run)
    assert raised.value.exit_code == 130
    assert raised.value.hint == f"go on with: rushkit pretrain --resume --run {run.path}"
    assert run.about.status == "interrupted"
    with Run.open(run.path, QUIET) as resumed:
        results = pretrain(recipe, resumed)
    assert same(checkpoint_of(resumed).tensors, checkpoint_of(whole).tensors)
    assert read_metrics(run.path / "metrics.jsonl") == read_metrics(whole.path / "metrics.jsonl")
    assert results.to_json() == json.loads((whole.path / "results.json").read_text()) | {"run": str(run.path)}


@pytest.mark.parametrize("step", [2, 3, 5])
def test_fine_tuning_that_died_and_resumed_ends_bit_for_bit_the_same(tiny, at_step, step):
    recipe = tiny("finetune.epochs=3", "finetune.optimizer.name=adamw", "data.validation=20")
    source = checkpoint_of(pretrained(recipe))
    whole = finetuned(recipe, source)

    at_step(step, die)
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(RuntimeError, match="went away"), run:
        finetune(recipe, source, run)
    with Run.open(run.path, QUIET) as resumed:
        finetune(recipe, source, resumed)
    assert same(checkpoint_of(resumed).tensors, checkpoint_of(whole).tensors)
    assert read_metrics(run.path / "metrics.jsonl") == read_metrics(whole.path / "metrics.jsonl")
    assert (run.path / "results.json").read_text() == (whole.path / "results.json").read_text()


@pytest.mark.parametrize(
    "backbone",
    [
        ["backbone.name=toy", "backbone.dropout=0.5"],
        ["backbone.name=timm/resnet18", "backbone.drop_path_rate=0.5", "data.limit=12", "pretrain.batch_size=4"],
    ],
    ids=["dropout", "timm's stochastic depth"],
)
def test_a_model_that_draws_resumes_bit_for_bit(tiny, at_step, backbone):
    recipe = tiny(*backbone, "pretrain.knn.every=0", "pretrain.save_every=2steps")
    whole = pretrained(recipe)

    at_step(6, die)
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises(RuntimeError, match="went away"), run:
        pretrain(recipe, run)
    # What other code draws meanwhile is no concern of the run's.
    with torch.random.fork_rng(devices=[]), Run.open(run.path, QUIET) as resumed:
        torch.rand(7)
        pretrain(recipe, resumed)
    assert same(checkpoint_of(resumed).tensors, checkpoint_of(whole).tensors)
    still = pretrained(tiny(*backbone, f"{backbone[1].partition('=')[0]}=0.0", "pretrain.knn.every=0"))
    assert not same(checkpoint_of(still).tensors, checkpoint_of(whole).tensors)


def saved_steps(run: Run) -> list[int]:
    return [int(path.stem.removeprefix("step-")) for path in sorted(run.checkpoints.folder.glob("step-*"))]


def test_checkpoints_between_epochs_change_nothing_and_serve_a_resume(tiny, at_step):
    whole = pretrained(tiny())

    recipe = tiny("pretrain.save_every=2steps")
    at_step(6, die)
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises(RuntimeError, match="went away"), run:
        pretrain(recipe, run)
    with Run.open(run.path, QUIET) as resumed:
        assert checkpoint_of(resumed).meta["step"] == 4
        pretrain(recipe, resumed)
    assert same(checkpoint_of(resumed).tensors, checkpoint_of(whole).tensors)
    assert read_metrics(run.path / "metrics.jsonl") == read_metrics(whole.path / "metrics.jsonl")


@pytest.mark.parametrize(
    ("every", "steps"),
    [("1", [3, 6, 9, 12, 15]), ("2", [6, 12, 15]), ("7", [15]), ("6steps", [6, 12, 15]), ("5steps", [5, 10, 15])],
)
def test_checkpoints_are_saved_every_so_many_epochs_or_steps_and_at_the_end(tiny, every, steps):
    run = pretrained(tiny("pretrain.epochs=5", f"pretrain.save_every={every}", "pretrain.keep=9"))
    assert saved_steps(run) == steps


def test_as_many_of_the_newest_checkpoints_stay_as_the_recipe_says(tiny):
    assert saved_steps(pretrained(tiny("pretrain.epochs=5"))) == [12, 15]
    assert saved_steps(pretrained(tiny("pretrain.epochs=5", "pretrain.keep=3"))) == [9, 12, 15]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_the_best_on_validation_images_stays_and_is_saved_between_the_others(tiny, at_step, monkeypatch, stage):
    """The epochs' figures are given; the run dies in its fifth epoch, and must still know of the third."""
    values = [0.2, 0.1, 0.6, 0.5, 0.6, 0.4]
    key = {"pretrain": "knn_accuracy", "finetune": "validation_accuracy"}[stage]
    owner, name = {"pretrain": (pretrain_stage, "_knn_accuracy"), "finetune": (HeldOut, "__call__")}[stage]
    monkeypatch.setattr(owner, name, lambda job, *rest: [(key, values[rest[-1] - 1])])
    recipe = tiny("data.validation=20", *(f"{stage}.{change}" for change in ("epochs=6", "save_every=4", "keep=2")))
    train = pretrain if stage == "pretrain" else lambda recipe, run: finetune(recipe, None, run)
    run = start_run(stage, recipe, QUIET)

    per_epoch = 3
    at_step(4 * per_epoch + 2, die)
    with pytest.raises(RuntimeError, match="went away"), run:
        train(recipe, run)
    assert saved_steps(run) == [3 * per_epoch, 4 * per_epoch]
    with Run.open(run.path, QUIET) as resumed:
        train(recipe, resumed)
    assert saved_steps(run) == [3 * per_epoch, 4 * per_epoch, 6 * per_epoch]
    best, last = (load_checkpoint(resumed.checkpoints.pointed(name)) for name in ("best", "last"))
    assert (best.meta["epoch"], last.meta["epoch"]) == (3, 6)
    assert checkpoint_of(resumed).meta["epoch"] == 6


def test_test_images_choose_no_checkpoint(tiny):
    run = pretrained(tiny())
    assert "knn_accuracy" in json.loads((run.path / "results.json").read_text())
    assert run.checkpoints.pointed("best") is None


def test_a_run_that_was_complete_but_for_its_results_gets_them(tiny):
    recipe = tiny()
    run = pretrained(recipe)
    before = (run.path / "results.json").read_text()
    (run.path / "results.json").unlink()
    with Run.open(run.path, QUIET) as resumed:
        pretrain(recipe, resumed)
    assert (run.path / "results.json").read_text() == before


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_checkpoint(tiny, monkeypatch):
    recipe = tiny("finetune.epochs=3", "finetune.batch_size=16")
    source = checkpoint_of(pretrained(recipe))
    original, calls = loop.train_batch, []

    def step(*arguments):
        calls.append(1)
        loss = original(*arguments)
        return loss * float("nan") if len(calls) == 5 else loss

    monkeypatch.setattr(loop, "train_batch", step)
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(NumericsError, match="the loss is nan at step 5") as raised, run:
        finetune(recipe, source, run)
    assert raised.value.hint is not None
    assert "finetune." in raised.value.hint
    assert "pretrain." not in raised.value.hint
    saved = checkpoint_of(run)
    assert saved.meta["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in saved.tensors.values() if tensor.is_floating_point())


def test_diverging_weights_are_never_saved(tiny):
    recipe = tiny("pretrain.optimizer.lr=1e30", "pretrain.epochs=3")
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises(NumericsError, match="the loss is"), run:
        pretrain(recipe, run)
    saved = run.checkpoints.load_latest()
    assert saved is None or saved.meta["step"] < 9


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_single_image_to_train_on_is_a_usage_error(tiny, stage):
    recipe = tiny("data.limit=1")
    with pytest.raises(UsageError, match="digits/train has a single image"):
        pretrain(recipe) if stage == "pretrain" else finetune(recipe, None)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_batch_larger_than_the_data_set_is_an_error_before_anything_runs(tiny, stage):
    recipe = tiny(f"{stage}.batch_size=49")
    job = pretraining_job if stage == "pretrain" else (lambda recipe, machine: finetuning_job(recipe, None, machine))
    with pytest.raises(UsageError, match="a batch of 49 is larger than digits/train with 48 images") as raised:
        job(recipe, machine_of(recipe))
    assert raised.value.hint == f"for example --set {stage}.batch_size=12"


def test_a_batch_as_large_as_the_data_set_trains(tiny):
    assert len(read_metrics(pretrained(tiny("pretrain.batch_size=48")).path / "metrics.jsonl")) == 4


def test_a_last_batch_of_one_image_is_left_out(tiny):
    # BatchNorm can make nothing of a single image.
    recipe = tiny("data.limit=41", "finetune.batch_size=20")
    run = finetuned(recipe, None)
    assert max(line["step"] for line in read_metrics(run.path / "metrics.jsonl")) == 4


def stopped(recipe, at_step) -> Run:
    at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        pretrain(recipe, run)
    return run


def test_resuming_with_other_data_is_refused(tiny, at_step):
    run = stopped(tiny(), at_step)
    other = tiny("data.limit=32")
    with pytest.raises(CheckpointError, match="was made with 3 steps an epoch, this is 2"), Run.open(run.path) as again:
        pretrain(other, again)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("pretrain.optimizer.lr=0.25", r"was made with pretrain\.optimizer\.lr = 0\.5, this is 0\.25"),
        ("noise.name=gaussian", "was made with noise.name = uniform, this is gaussian"),
        ("system.seed=1", "was made with system.seed = 0, this is 1"),
    ],
)
def test_resuming_with_another_recipe_is_refused(tiny, at_step, change, words):
    run = stopped(tiny("pretrain.optimizer.lr=0.5"), at_step)
    other = tiny("pretrain.optimizer.lr=0.5", *(["noise.std=0.1"] if "noise" in change else []), change)
    with pytest.raises(CheckpointError, match=words), Run.open(run.path) as again:
        pretrain(other, again)


@pytest.mark.parametrize(
    "change",
    ["pretrain.save_every=2", "pretrain.keep=5", "pretrain.knn.every=2", "finetune.epochs=9", "system.chunk=3"],
)
def test_resuming_may_change_what_changes_no_weight(tiny, at_step, change):
    run = stopped(tiny(), at_step)
    with Run.open(run.path, QUIET) as again:
        pretrain(tiny(change), again)
    assert checkpoint_of(again).meta["step"] == 6


@pytest.mark.parametrize("line", ['{"step": 1, "kind": "step", "loss": 1}', '{"step": 3, "kind": "epoch", "epoch": 1}'])
def test_damaged_metrics_are_named_by_a_resume(tiny, at_step, line):
    run = stopped(tiny(), at_step)
    path = run.path / "metrics.jsonl"
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(DataError, match=r"metrics.jsonl is damaged: line 1"), Run.open(run.path) as again:
        pretrain(tiny(), again)


def test_a_source_of_another_architecture_is_refused(tiny):
    source = checkpoint_of(pretrained(tiny()))
    for change in ("backbone.width=6", "backbone.name=resnet10-small"):
        with pytest.raises(CheckpointError, match="checkpoint") as raised:
            finetuned(tiny(change), source)
        assert raised.value.hint is not None
        assert "backbone" in raised.value.hint


def test_fine_tuning_needs_labels(tiny, tmp_path):
    folder_of_images(tmp_path / "set")
    (tmp_path / "set" / "more").mkdir()
    (tmp_path / "set" / "train" / "class0" / "0.png").rename(tmp_path / "set" / "more" / "0.png")
    changes = ("data.name=folder", f"data.path={tmp_path / 'set'}", "finetune.split=more", "finetune.batch_size=2")
    with pytest.raises(DataError, match="has no labels"):
        finetuned(tiny(*changes), None)


@pytest.mark.parametrize("classes", [3, 9])
def test_labels_beyond_the_classes_are_refused(tiny, monkeypatch, classes):
    recipe = tiny()
    dataset = components.build_dataset(recipe)
    monkeypatch.setattr(type(dataset), "classes", tuple(map(str, range(classes))))
    with pytest.raises(DataError, match=rf"digits/train has label 9, outside 0\.\.{classes - 1}"):
        components.load_split(recipe, dataset, "train")


def test_transfer_to_a_data_set_with_other_classes(tiny, tmp_path):
    source = checkpoint_of(pretrained(tiny()))
    folder_of_images(tmp_path / "set", classes=3)
    recipe = tiny("data.name=folder", f"data.path={tmp_path / 'set'}", "finetune.batch_size=8", "finetune.epochs=8")
    after = checkpoint_of(finetuned(recipe, source))
    assert after.tensors["head.weight"].shape[0] == 3
    assert after.meta["classes"] == ["class0", "class1", "class2"]
    assert torch.equal(after.tensors["encoder.0.weight"], source.tensors["encoder.0.weight"])


def test_a_stage_without_a_run_makes_its_own(tiny, tmp_path):
    recipe = tiny("pretrain.epochs=1", "pretrain.knn.every=0")
    results = pretrain(recipe)
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "results.json").read_text()) | {"run": results.run} == results.to_json()
    assert Path(results.run).samefile(run)
    assert results.knn_protocol is None
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_the_stored_recipe_is_the_resolved_one(tiny):
    recipe = tiny("pretrain.epochs=1")
    run = pretrained(recipe)
    assert load_recipe(str(run.path / "recipe.toml"), environment={}).resolved() == recipe.resolved()


def test_validation_images_are_looked_at_and_never_trained_on(tiny):
    recipe = tiny("data.validation=30", "data.limit=0", "finetune.batch_size=700", "finetune.epochs=1")
    dataset = components.build_dataset(recipe)
    training, held = (components.load_split(recipe, dataset, name) for name in ("train", "validation"))
    assert (len(training), len(held)) == (1437 - 30, 30)
    seeds = [
        components.load_split(tiny("data.validation=30", f"system.seed={seed}"), dataset, "validation")
        for seed in (0, 7)
    ]
    assert torch.equal(seeds[0].images, seeds[1].images)
    # A limit on training images leaves these as they are.
    limited = components.load_split(tiny("data.validation=30", "data.limit=20"), dataset, "validation")
    assert torch.equal(limited.images, held.images)
    results = finetune(recipe, None)
    assert 0 <= results.validation_accuracy <= 1


def test_a_validation_split_of_the_data_itself_is_used(tiny, tmp_path):
    folder_of_images(tmp_path / "set")
    (tmp_path / "set" / "test").rename(tmp_path / "set" / "validation")
    recipe = tiny("data.name=folder", f"data.path={tmp_path / 'set'}", "pretrain.batch_size=8", "finetune.batch_size=8")
    results = json.loads((pretrained(recipe).path / "results.json").read_text())
    assert results["knn_protocol"]["queries"].startswith("24 clean images of ")
    assert results["knn_protocol"]["queries"].endswith("validation")
    assert results["knn_protocol"]["use"] == "shown; the best checkpoint is chosen by it"
    assert 0 <= finetune(recipe, None).validation_accuracy <= 1
