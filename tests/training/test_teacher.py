"""A pre-training that learns from a teacher: what it records, how it resumes, and which teachers it refuses."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from tiny_runs import QUIET, checkpoint_of, die, finetuned, pretrained

from rushkit.errors import CheckpointError, UsageError
from rushkit.results import read
from rushkit.run.checkpoint import save_checkpoint
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.setup.model import load_encoder
from rushkit.setup.resume import parent_checkpoint
from rushkit.setup.start import start_run
from rushkit.training.pretrain import pretrain
from rushkit.training.teacher import teacher_record

pytestmark = pytest.mark.usefixtures("untouched_global_state")

# RUSH's encoder has a noise, its student has none.
STUDENT = ("pretrain.steps=2", "pretrain.optimizer.lr=0.05")


@pytest.fixture
def student(tiny):
    def make(*changes):
        return tiny(*STUDENT, *changes, recipe="deacl-digits")

    return make


def started(recipe, teacher):
    return start_run("pretrain", recipe, QUIET, parent=str(teacher.path))


def taught(recipe, teacher):
    with started(recipe, teacher) as run:
        pretrain(recipe, run, teacher)
    return run


def died_at(step, recipe, teacher, at_step):
    at_step(step, die)
    run = started(recipe, teacher)
    with pytest.raises(RuntimeError, match="went away"), run:
        pretrain(recipe, run, teacher)
    return run


def test_a_student_has_an_encoder_of_its_own_and_its_run_names_the_teacher(tiny, student):
    teacher = checkpoint_of(pretrained(tiny()))
    run = taught(student(), teacher)
    saved = checkpoint_of(run)
    assert {name.split(".")[0] for name in saved.tensors} == {"encoder", "optimizer"}
    encoder = {name: tensor for name, tensor in saved.tensors.items() if name.startswith("encoder.")}
    assert len(encoder) == 8
    assert [name for name, tensor in encoder.items() if torch.equal(tensor, teacher.tensors[name])] == []
    record = read(run.path).teacher
    assert record.in_words() == (
        f"{teacher.path} (recipe digits+toy, trained under noise uniform scale 0.3), on the clean views, without noise"
    )
    assert (run.about.parent, run.about.hashes) == (str(teacher.path), {"parent": teacher.hash})
    # A finished run needs it no more.
    assert not (run.path / "parent.safetensors").exists()
    features = load_encoder(saved)(torch.ones(2, 3, 8, 8))
    assert features.shape == (2, 8)
    assert saved.meta["noise_drawn"] is False


def test_a_student_is_fine_tuned_and_teaches_in_turn(tiny, student):
    first = checkpoint_of(taught(student(), checkpoint_of(pretrained(tiny()))))
    model = checkpoint_of(finetuned(student(), first))
    for teacher in (first, model):
        record = read(taught(student(), teacher).path).teacher
        assert (record.recipe, record.noise) == ("deacl-digits+toy", "")
        assert "trained without noise" in record.in_words()


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_student_that_died_goes_on_with_its_own_copy_of_the_teacher(tiny, student, at_step, step):
    source = pretrained(tiny())
    teacher = checkpoint_of(source)
    whole = taught(student(), teacher)
    run = died_at(step, student(), teacher, at_step)
    shutil.rmtree(source.path)
    with Run.open(run.path, QUIET) as resumed:
        pretrain(student(), resumed, parent_checkpoint(resumed))
    expected = checkpoint_of(whole).tensors
    again = checkpoint_of(resumed).tensors
    assert again.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(again[name], tensor)] == []
    assert read_metrics(run.path / "metrics.jsonl") == read_metrics(whole.path / "metrics.jsonl")
    assert json.loads((run.path / "results.json").read_text()) == json.loads((whole.path / "results.json").read_text())


def test_another_teacher_in_the_place_of_the_first_is_refused(tiny, student, at_step):
    teacher = checkpoint_of(pretrained(tiny()))
    run = died_at(3, student(), teacher, at_step)
    (run.path / "parent.safetensors").unlink()
    other = {name: tensor + 1 for name, tensor in teacher.tensors.items()}
    save_checkpoint(teacher.path, other, teacher.meta)
    with pytest.raises(CheckpointError, match="the model changed"), Run.open(run.path, QUIET) as resumed:
        parent_checkpoint(resumed)


def test_a_teacher_is_named_where_the_objective_has_one_and_nowhere_else(tiny, student):
    teacher = checkpoint_of(pretrained(tiny()))
    with pytest.raises(UsageError, match="objective 'deacl' learns from a teacher, and none is named") as raised:
        pretrain(student())
    assert "rushkit pretrain --recipe deacl-digits --from digits" in raised.value.hint
    assert raised.value.hint.endswith("make a teacher with: rushkit pretrain --recipe digits")
    with pytest.raises(UsageError, match="objective 'rush' learns from no teacher"):
        pretrain(tiny(), teacher=teacher)


@pytest.mark.parametrize(
    "change, words",
    [
        ("data.image_size=16", "takes images of 8x8, and the student's are 16x16"),
        ("backbone.width=4", "the teacher has 8 features and the student 4"),
        ("backbone.name=resnet10-small", "the teacher has 8 features and the student 128"),
        ("backbone={name='toy', mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]}", "its backbone is another one"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_and_leaves_no_run(tiny, student, change, words):
    teacher = checkpoint_of(pretrained(tiny()))
    recipe = student(change)
    with pytest.raises(UsageError, match=re.escape(words)), started(recipe, teacher) as run:
        pretrain(recipe, run, teacher)
    assert not run.path.exists()


def test_a_checkpoint_with_another_encoder_than_its_recipe_teaches_nobody(tiny, student):
    teacher = checkpoint_of(pretrained(tiny()))
    altered = replace(teacher, tensors={name: t for name, t in teacher.tensors.items() if "encoder.1." not in name})
    with pytest.raises(CheckpointError, match="another encoder than its recipe"):
        pretrain(student(), teacher=altered)


def test_nothing_is_said_of_the_noise_of_an_imported_teacher(tiny):
    teacher = checkpoint_of(pretrained(tiny()))
    record = teacher_record(replace(teacher, meta={key: v for key, v in teacher.meta.items() if key != "noise_drawn"}))
    assert record.noise is None
    assert "(recipe digits+toy, imported)" in record.in_words()
