from __future__ import annotations

import json

from commands import TINY, contents, only, sets

from rushkit.run.metrics import read_metrics


def test_both_trainings_take_the_flag_and_a_resume_does_too(cli, folder):
    said = cli("pretrain", "--recipe", "digits", "--track", "tensorboard", *sets(*TINY))
    assert said.code == 0, said.err
    run = only(folder / "runs", "pretrain")
    assert len(contents(run / "tensorboard")) == 1
    # The next training is asked anew.
    assert cli("finetune", "-q").code == 0
    tuned = only(folder / "runs", "finetune")
    assert not (tuned / "tensorboard").exists()
    # What was stopped before its only checkpoint begins again, and now somebody looks on.
    (tuned / "checkpoints" / "last").unlink()
    for file in (tuned / "checkpoints").glob("step-*"):
        file.unlink()
    told = json.loads((tuned / "run.json").read_text())
    (tuned / "run.json").write_text(json.dumps(told | {"status": "interrupted"}))
    said = cli("finetune", "--resume", "--run", str(tuned), "--track", "tensorboard")
    assert said.code == 0, said.err
    assert len(contents(tuned / "tensorboard")) == 1
    assert [line["step"] for line in read_metrics(tuned / "metrics.jsonl") if line["kind"] == "step"] == [1, 2]


def test_without_the_package_nothing_begins_and_the_extra_is_named(fails, folder, monkeypatch):
    monkeypatch.setattr("rushkit.trackers.tensorboard.find_spec", lambda name: None)
    said = fails(2, "pretrain", "--recipe", "digits", "--track", "tensorboard", *sets(*TINY))
    assert "hint: pip install 'rushkit[tensorboard]'" in said.err
    assert not (folder / "runs").exists()
