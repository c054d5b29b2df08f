"""Which runs belong to a report."""

from __future__ import annotations

import shutil

import pytest
from synthetic_runs import attack_row, attacks, evaluation, finetuning, pretraining, probed

from rushkit.errors import UsageError
from rushkit.report.families import gather
from rushkit.run.info import find_runs
from rushkit.run.named import run_named


def verbs(family):
    return [run.verb for run in family.runs]


def test_any_run_of_a_model_leads_to_the_same_family(runs, measured):
    expected = {run.path.name for run in find_runs(runs.root)}
    for run in find_runs(runs.root):
        family = gather(run)
        assert family.model.path == measured.path
        assert {each.path.name for each in family.runs} == expected
    assert verbs(gather(measured)) == ["pretrain", "finetune", "evaluate", "attack", "certify", "audit", "probe"]


def test_a_folder_of_runs_that_was_moved_still_hangs_together(runs, measured, tmp_path):
    moved = tmp_path / "moved"
    shutil.move(runs.root, moved)
    assert len(gather(run_named(None, moved)[0]).runs) == 7


def test_an_encoder_stands_for_its_newest_model_and_names_the_others(runs):
    first = runs.model()
    encoder = next(run for run in find_runs(runs.root) if run.verb == "pretrain")
    second = runs.add("finetune", encoder, finetuning())
    runs.add("evaluate", first, evaluation([True]))
    family = gather(encoder)
    assert family.model.path == second.path
    assert verbs(family) == ["pretrain", "finetune"]
    assert any(first.path.name in note for note in family.notes)


def test_a_sibling_models_measurements_are_not_ones_own(runs):
    first = runs.model()
    encoder = next(run for run in find_runs(runs.root) if run.verb == "pretrain")
    second = runs.add("finetune", encoder, finetuning())
    runs.add("attack", second, attacks(attack_row([1])))
    assert verbs(gather(first)) == ["pretrain", "finetune"]
    assert verbs(gather(second)) == ["pretrain", "finetune", "attack"]


def test_radii_redone_from_counts_belong_to_the_model(runs):
    model = runs.model()
    certified = runs.add("certify", model)
    redone = runs.add("certify", parent=None)
    data = (redone.path / "run.json").read_text().replace('"parent": null', f'"parent": "{certified.path}"')
    (redone.path / "run.json").write_text(data)
    assert gather(runs.info(redone.path)).model.path == model.path


def test_a_lost_parent_is_told(runs):
    model = runs.model()
    encoder = next(run for run in find_runs(runs.root) if run.verb == "pretrain")
    shutil.rmtree(encoder.path)
    family = gather(runs.info(model.path))
    assert verbs(family) == ["finetune"]
    assert any("which is not in" in note for note in family.notes)


def test_a_lone_encoder_is_its_own_subject(runs):
    encoder = runs.add("pretrain")
    family = gather(encoder)
    assert (family.model.path, verbs(family), family.notes) == (encoder.path, ["pretrain"], ())


def test_a_model_whose_encoder_learnt_from_a_teacher_has_the_teachers_run_and_nothing_else_of_it(runs):
    teacher = runs.add("pretrain", name="teacher", results=pretraining())
    runs.add("probe", teacher, probed("pre-trained"))
    taught = runs.add("finetune", teacher, finetuning())
    runs.add("attack", taught, attacks(attack_row([1])))
    student, other = (runs.add("pretrain", teacher, pretraining()) for _ in range(2))
    model = runs.add("finetune", student, finetuning())
    probe = runs.add("probe", student, probed("pre-trained"))
    for run in (model, student, probe):
        family = gather(runs.info(run.path))
        assert (family.model.path, family.encoder.path) == (model.path, student.path)
        assert [each.path for each in family.runs] == [teacher.path, student.path, model.path, probe.path]
        assert family.notes == ()
    # Without a model, a student is its own subject, not the teacher's model.
    family = gather(other)
    assert (family.model.path, verbs(family)) == (other.path, ["pretrain", "pretrain"])


def test_students_are_not_of_their_teachers_family(runs):
    teacher = runs.add("pretrain", name="teacher", results=pretraining())
    taught = runs.add("finetune", teacher, finetuning())
    runs.add("finetune", runs.add("pretrain", teacher, pretraining()), finetuning())
    for run in (teacher, taught):
        family = gather(runs.info(run.path))
        assert (family.model.path, verbs(family), family.notes) == (taught.path, ["pretrain", "finetune"], ())


def test_a_classifier_may_be_the_teacher(runs):
    teacher = runs.model()
    student = runs.add("pretrain", teacher, pretraining())
    model = runs.add("finetune", student, finetuning())
    for run in (model, student):
        family = gather(runs.info(run.path))
        assert (family.model.path, family.encoder.path) == (model.path, student.path)
        assert verbs(family) == ["pretrain", "finetune", "pretrain", "finetune"]
    assert gather(runs.info(teacher.path)).model.path == teacher.path
    assert verbs(gather(runs.info(teacher.path))) == ["pretrain", "finetune"]


def test_runs_are_chosen_by_folder_name_recipe_or_as_the_newest_model(runs, measured, monkeypatch):
    other = runs.add("finetune", name="stl10", results=finetuning())
    assert run_named(str(measured.path), "nowhere")[0].path == measured.path
    assert run_named(measured.path.name, runs.root)[0].path == measured.path
    assert run_named("cifar10", runs.root)[0].path == measured.path
    assert run_named(None, runs.root)[0].path == other.path
    monkeypatch.chdir(measured.path)
    assert run_named(".", runs.root)[0].path == measured.path.resolve()


def test_where_there_is_no_finished_model_the_newest_run_is_taken(runs):
    runs.add("pretrain")
    stopped = runs.add("finetune", status="interrupted")
    assert run_named("cifar10", runs.root)[0].verb == "pretrain"
    shutil.rmtree(next(runs.root.glob("*pretrain*")))
    assert run_named(None, runs.root)[0].path == stopped.path


@pytest.mark.parametrize("spec", [None, "cifar10", "x" * 300])
def test_no_such_run_is_one_error(tmp_path, spec):
    with pytest.raises(UsageError, match="there is no run") as error:
        run_named(spec, tmp_path)
    assert "runs list" in error.value.hint
