"""A pre-training that starts from weights, and one that goes on for more epochs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_runs import QUIET, checkpoint_of, die, pretrained

from rushkit.errors import CheckpointError, UsageError
from rushkit.results.imported import Origin
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup.start import start_run
from rushkit.training.pretrain import pretrain
from rushkit.training.starting import Start, extended_recipe, start_of

STILL = ("pretrain.epochs=1", "pretrain.optimizer.lr=1e-30", "pretrain.optimizer.weight_decay=0")
CONSTANT = ("pretrain.schedule.name=constant", "pretrain.schedule.warmup_epochs=0")


def begun(recipe, start):
    """A run that was started so, to its end."""
    with start_run("pretrain", recipe, QUIET, asked=start.facts()) as run:
        pretrain(recipe, run, start=start)
    return run


def weights(run_or_checkpoint):
    found = checkpoint_of(run_or_checkpoint) if isinstance(run_or_checkpoint, Run) else run_or_checkpoint
    return {name: tensor for name, tensor in found.tensors.items() if name.startswith(("encoder.", "projector."))}


def assert_same(one, other):
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []


def results_of(run):
    return json.loads((run.path / "results.json").read_text())


@pytest.mark.parametrize("objective", ["rush", "simclr"])
def test_a_training_that_goes_on_ends_as_one_that_never_stopped(tiny, objective):
    """The rate is constant, so that the longer schedule has the same rates; all draws are those of later epochs."""
    settings = (*CONSTANT, f"pretrain.objective={objective}")
    whole = pretrained(tiny(*settings, "pretrain.epochs=4"))
    half = checkpoint_of(pretrained(tiny(*settings, "pretrain.epochs=2")))
    recipe = extended_recipe(half, ["pretrain.epochs=4", f"system.runs_dir={tiny().system.runs_dir}"])
    longer = begun(recipe, Start(half, goes_on=True))
    assert_same(checkpoint_of(longer).tensors, checkpoint_of(whole).tensors)
    assert longer.path != half.path.parents[1]
    started = results_of(longer)["started"]
    assert (started["way"], started["epochs"], started["hash"]) == ("extension", 2, half.hash)
    assert results_of(longer)["epochs"] == 4
    about = json.loads((longer.path / "run.json").read_text())
    assert (about["extends"], about["hashes"]["extends"]) == (str(half.path), half.hash)


@pytest.mark.parametrize("objective", ["byol", "byorl", "acl"])
def test_what_an_objective_remembers_goes_on_with_it(tiny, monkeypatch, objective):
    """BYOL's target is made to follow at one rate: the share of the run that is done would be another."""
    monkeypatch.setattr("rushkit.objectives.byol.target_share", lambda tau, progress: tau)
    settings = (*CONSTANT, f"pretrain.objective={objective}")
    whole = checkpoint_of(pretrained(tiny(*settings, "pretrain.epochs=4")))
    half = checkpoint_of(pretrained(tiny(*settings, "pretrain.epochs=2")))
    recipe = extended_recipe(half, ["pretrain.epochs=4", f"system.runs_dir={tiny().system.runs_dir}"])
    longer = checkpoint_of(begun(recipe, Start(half, goes_on=True)))
    remembered = [name for name in whole.tensors if name.startswith("training.memory.")]
    assert remembered
    assert any(not torch.equal(half.tensors[name], whole.tensors[name]) for name in remembered)
    assert_same(longer.tensors, whole.tensors)


def test_a_student_goes_on_with_its_teacher(tiny):
    teacher = checkpoint_of(pretrained(tiny()))
    settings = (*CONSTANT, "pretrain.objective=deacl")

    def taught(recipe, start=None):
        asked = start.facts() if start else None
        with start_run("pretrain", recipe, QUIET, parent=str(teacher.path), asked=asked) as run:
            pretrain(recipe, run, teacher, start)
        return run

    whole = taught(tiny(*settings, "pretrain.epochs=4"))
    half = checkpoint_of(taught(tiny(*settings, "pretrain.epochs=2")))
    recipe = extended_recipe(half, ["pretrain.epochs=4", f"system.runs_dir={tiny().system.runs_dir}"])
    longer = taught(recipe, Start(half, goes_on=True))
    assert_same(checkpoint_of(longer).tensors, checkpoint_of(whole).tensors)
    assert results_of(longer)["teacher"]["source"] == str(teacher.path)


def test_the_rates_of_a_longer_schedule_are_those_of_its_later_epochs(tiny):
    half = checkpoint_of(pretrained(tiny("pretrain.epochs=2")))
    recipe = extended_recipe(half, ["pretrain.epochs=4", f"system.runs_dir={tiny().system.runs_dir}"])
    longer = begun(recipe, Start(half, goes_on=True))
    whole = pretrained(tiny("pretrain.epochs=4"))

    def rates(run):
        lines = map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines())
        return {line["step"]: line["lr"] for line in lines if line["kind"] == "step"}

    later = rates(longer)
    assert later
    assert later == {step: rate for step, rate in rates(whole).items() if step in later}
    assert min(later) == 7


def test_an_extension_that_was_killed_goes_on_exactly(tiny, at_step):
    half = checkpoint_of(pretrained(tiny("pretrain.epochs=2")))
    recipe = extended_recipe(half, ["pretrain.epochs=4", f"system.runs_dir={tiny().system.runs_dir}"])
    start = Start(half, goes_on=True)
    unbroken = begun(recipe, start)
    for step in (1, 4):
        at_step(step, die)
        with pytest.raises(RuntimeError), start_run("pretrain", recipe, QUIET, asked=start.facts()) as run:
            pretrain(recipe, run, start=start)
        with Run.open(run.path, QUIET) as again:
            pretrain(recipe, again, start=start_of(again))
        assert_same(weights(run), weights(unbroken))


def test_weights_are_where_a_training_starts_and_its_schedule_begins_anew(tiny):
    source = checkpoint_of(pretrained(tiny("pretrain.epochs=2")))
    run = begun(tiny("system.seed=7", *STILL), Start(source))
    # So small a rate moves no weight; the statistics of BatchNorm move without one.
    kept = [name for name in weights(source) if "running" not in name and "num_batches" not in name]
    assert any(name.startswith("projector.") for name in kept)
    assert_same({name: weights(run)[name] for name in kept}, {name: weights(source)[name] for name in kept})
    assert checkpoint_of(run).meta["step"] == 3
    assert results_of(run)["started"] | {"tensors": 0} == {
        "source": str(source.path), "hash": source.hash, "way": "weights", "tensors": 0, "projector": True,
    }  # fmt: skip


def test_a_projector_of_another_shape_is_fresh(tiny):
    source = checkpoint_of(pretrained(tiny()))
    run = begun(tiny("projector.out=4"), Start(source))
    assert results_of(run)["started"]["projector"] is False


def test_a_twin_network_starts_as_a_copy_of_the_weights(tiny):
    source = checkpoint_of(pretrained(tiny()))
    run = begun(tiny("pretrain.objective=byol", *STILL), Start(source))
    twins = {name: tensor for name, tensor in checkpoint_of(run).tensors.items() if name.startswith("training.memory.")}
    matching = [name for name in twins if name.endswith("encoder.0.weight")]
    assert matching
    for name in matching:
        torch.testing.assert_close(twins[name], source.tensors["encoder.0.weight"])


@pytest.mark.parametrize("step", [1, 5])
def test_one_that_was_killed_starts_from_the_same_weights(tiny, at_step, step):
    source = checkpoint_of(pretrained(tiny()))
    recipe, start = tiny("system.seed=7"), Start(source)
    unbroken = begun(recipe, start)
    at_step(step, die)
    with pytest.raises(RuntimeError), start_run("pretrain", recipe, QUIET, asked=start.facts()) as run:
        pretrain(recipe, run, start=start)
    # The run keeps what it builds on.
    source.path.unlink()
    with Run.open(run.path, QUIET) as again:
        pretrain(recipe, again, start=start_of(again))
    assert_same(weights(run), weights(unbroken))


def test_weights_of_somebody_elses_file_are_kept_in_the_run(tiny, at_step):
    source = checkpoint_of(pretrained(tiny()))
    origin = Origin(file="theirs.pt", sha256="ab" * 32, renamed={}, ignored=[], notes=[])
    start = Start(replace(source, path=Path("theirs.pt"), hash=""), origin=origin)
    recipe = tiny("system.seed=7")
    unbroken = begun(recipe, start)
    at_step(1, die)
    with pytest.raises(RuntimeError), start_run("pretrain", recipe, QUIET, asked=start.facts()) as run:
        pretrain(recipe, run, start=start)
    assert (run.path / "init.safetensors").is_file()
    with Run.open(run.path, QUIET) as again:
        pretrain(recipe, again, start=start_of(again))
    assert_same(weights(run), weights(unbroken))
    assert results_of(run)["started"] == results_of(unbroken)["started"]
    assert results_of(run)["started"]["hash"] == origin.sha256


def test_another_checkpoint_in_its_place_is_refused(tiny, at_step):
    source = checkpoint_of(pretrained(tiny()))
    other = checkpoint_of(pretrained(tiny("system.seed=3")))
    recipe, start = tiny("system.seed=7"), Start(source)
    at_step(1, die)
    with pytest.raises(RuntimeError), start_run("pretrain", recipe, QUIET, asked=start.facts()) as run:
        pretrain(recipe, run, start=start)
    (run.path / "init.safetensors").unlink()
    source.path.write_bytes(other.path.read_bytes())
    with Run.open(run.path, QUIET) as again, pytest.raises(CheckpointError, match="the model changed"):
        start_of(again)


class TestRefused:
    @pytest.fixture
    def source(self, tiny) -> Checkpoint:
        return checkpoint_of(pretrained(tiny()))

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            (("backbone.name=resnet10-small",), "has the backbone toy, and the recipe resnet10-small"),
            (("backbone.width=4",), "has the backbone toy, and the recipe toy width 4"),
            (("backbone.mean=[0.5, 0.5, 0.5]", "backbone.std=[0.2, 0.2, 0.2]"), r"mean \[0.5, 0.5, 0.5\]"),
        ],
    )
    def test_weights_of_another_backbone(self, tiny, source, changes, says):
        with pytest.raises(UsageError, match=says) as caught:
            pretrain(tiny(*changes), start=Start(source))
        assert "--set backbone.name=toy" in caught.value.hint

    def test_an_encoder_that_lacks_a_tensor(self, tiny, source):
        tensors = {name: tensor for name, tensor in source.tensors.items() if name != "encoder.0.weight"}
        with pytest.raises(CheckpointError, match=r"another encoder than its recipe: 0\.weight"):
            pretrain(tiny(), start=Start(replace(source, tensors=tensors)))

    @pytest.mark.parametrize("epochs", [1, 2])
    def test_no_more_epochs_than_it_had(self, source, epochs):
        with pytest.raises(UsageError, match=f"has had 2 epochs, and is asked for {epochs} in all"):
            extended_recipe(source, [f"pretrain.epochs={epochs}"])

    def test_a_change_of_what_it_learnt_by(self, source):
        with pytest.raises(UsageError, match="--extend goes on with the recipe of the run; it cannot take"):
            extended_recipe(source, ["pretrain.epochs=4", "pretrain.batch_size=8"])

    @pytest.mark.parametrize("lacks", ["optimizer", "stage", "epoch"])
    def test_what_is_not_the_end_of_a_pre_training(self, source, lacks):
        meta = {key: value for key, value in source.meta.items() if key != lacks}
        with pytest.raises(UsageError, match="is not the end of a pre-training"):
            extended_recipe(replace(source, meta=meta), ["pretrain.epochs=4"])
