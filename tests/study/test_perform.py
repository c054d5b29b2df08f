"""Each stage as a job: real ones, tiny, in this process."""

from __future__ import annotations

import json
import os

import pytest
import torch
from small_studies import Inline, Small, states
from tiny_runs import calling_after_step, die

from rushkit.errors import Interrupted
from rushkit.run.info import read_run_file
from rushkit.study import perform
from rushkit.study.isolation import isolated
from rushkit.study.work import work_on

TEXT = """
schema = 1
title = "all stages"
[set]
data = { limit = 48, image_size = 8 }
backbone.name = "toy"
projector = { hidden = 16, out = 8 }
pretrain = { epochs = 2, batch_size = 16, knn.every = 0 }
finetune = { epochs = 1, batch_size = 20 }
system.device = "cpu"
[[stage]]
do = "pretrain"
[[stage]]
do = "cluster"
clusters = [3, 4]
[[stage]]
do = "finetune"
[[stage]]
do = "finetune"
label = "on clusters"
from = "pretrain"
labels = "cluster"
set = { finetune.labels_clusters = [3] }
[[stage]]
do = "probe"
from = "pretrain"
limit = 4
steps = 1
[[stage]]
do = "evaluate"
from = "finetune"
samples = [1]
[[stage]]
do = "evaluate"
label = "plain"
from = "finetune"
samples = [1]
limit = 6
set = { evaluate.corruptions = ["fog", "contrast"], evaluate.strengths = [1, 5] }
[[stage]]
do = "evaluate"
label = "beside it"
from = "finetune"
baseline = "plain"
samples = [2]
limit = 6
set = { evaluate.corruptions = ["contrast"], evaluate.strengths = [5, 1] }
[[stage]]
do = "attack"
from = "finetune"
type = "pgd"
protocols = ["paper"]
samples = [1]
limit = 4
save = true
set = { "attack.0.steps" = 1 }
[[stage]]
do = "certify"
from = "finetune"
norm = "l1"
samples = 40
alpha = 0.1
limit = 2
[[stage]]
do = "audit"
from = "finetune"
limit = 2
samples = 1
steps = 1
eot = 1
queries = 1
[[row]]
label = "A"
recipe = "digits"
"""


@pytest.fixture
def all_stages(tmp_path, toy_backbone) -> Small:
    return Small(tmp_path, TEXT)


def test_each_stage_is_a_job(all_stages):
    outcome = all_stages.run()
    assert outcome.is_whole, [(job.name, job.failure) for job in outcome.of("failed")]
    places = all_stages.places
    clustered = places.run_folder(all_stages.job("A", 0, "cluster")).name
    on_clusters = read_run_file(places.run_folder(all_stages.job("A", 0, "on clusters")))
    assert on_clusters.labels.run.endswith(clustered)
    beside = places.run_folder(all_stages.job("A", 0, "beside it"))
    plain = places.run_folder(all_stages.job("A", 0, "plain"))
    (baseline,) = {json.loads((beside / "results.json").read_text())["corruptions"]["baseline"]["run"]}
    assert (baseline, read_run_file(beside).baseline) == (plain.name, str(plain.absolute()))
    attacked = read_run_file(places.run_folder(all_stages.job("A", 0, "attack")))
    assert (attacked.protocols, attacked.save) == (["paper"], True)
    probed = json.loads((places.run_folder(all_stages.job("A", 0, "probe")) / "results.json").read_text())
    assert (probed["images"], probed["steps"]) == (4, 1)


def test_a_training_that_was_killed_goes_on_and_an_evaluation_begins_anew(all_stages):
    with calling_after_step(4, die):
        outcome = all_stages.run()
    assert states(outcome)["A 0 pretrain"] == "failed"
    all_stages.run()
    places = all_stages.places
    pretrained = read_run_file(places.run_folder(all_stages.job("A", 0, "pretrain")))
    assert [session.ended is not None for session in pretrained.sessions] == [True, True]
    folder = places.run_folder(all_stages.job("A", 0, "evaluate"))
    (folder / "results.json").unlink()
    (folder / "left").write_text("by an attempt that was stopped")
    assert all_stages.run().is_whole
    assert len(read_run_file(folder).sessions) == 1
    assert not (folder / "left").exists()


def test_the_run_of_something_else_in_the_folder_of_a_job_is_left_alone(all_stages):
    folder = all_stages.places.run_folder(all_stages.job("A", 0, "pretrain"))
    folder.mkdir(parents=True)
    table = {"verb": "pretrain", "recipe": "mine", "status": "failed", "started": "2030-01-01T00:00:00+00:00"}
    (folder / "run.json").write_text(json.dumps(table))
    outcome = all_stages.run()
    assert "is the run of something else" in outcome.of("failed")[0].failure.message
    assert json.loads((folder / "run.json").read_text()) == table


def test_a_link_in_the_place_of_a_run_is_refused(all_stages, tmp_path):
    folder = all_stages.places.run_folder(all_stages.job("A", 0, "pretrain"))
    folder.parent.mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").touch()
    folder.symlink_to(tmp_path / "mine")
    outcome = all_stages.run()
    assert "is a link" in outcome.of("failed")[0].failure.message
    assert (tmp_path / "mine" / "kept").exists()


def test_a_process_that_works_in_the_run_folder_is_waited_for(all_stages, monkeypatch):
    job = all_stages.job("A", 0, "pretrain")
    calls = []

    def occupied(call):
        calls.append(perform.FolderLock(call.run.path))

    monkeypatch.setitem(perform.STAGES, "pretrain", perform.StageCall(occupied))

    class Once(Inline):
        def do(self, submission):
            ended = work_on(all_stages.places, submission.job)
            assert ended.how == "busy"
            raise Interrupted("seen")

    with pytest.raises(Interrupted, match="seen"):
        all_stages.run(Once())
    assert not (all_stages.places.job_folder(job) / "failure.json").exists()


def test_a_job_leaves_no_trace_in_its_process(monkeypatch, tmp_path):
    monkeypatch.setenv("KEPT", "as it was")
    threads, draws = torch.get_num_threads(), torch.get_rng_state()
    with isolated():
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KEPT", "changed")
        monkeypatch.setenv("NEW", "set")
        torch.manual_seed(7)
        torch.set_num_threads(threads + 1)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
    assert (os.environ["KEPT"], "NEW" in os.environ) == ("as it was", False)
    assert torch.equal(torch.get_rng_state(), draws)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, torch.float32)
    assert not torch.are_deterministic_algorithms_enabled()
