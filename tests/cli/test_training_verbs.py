from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from commands import TINY, contents, only, sets
from tiny_runs import calling_after_step

from rushkit.results.run_file import Facts
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.run.speaker import Speaker
from rushkit.trackers import tensorboard
from rushkit.training import loop

ROOT = Path(__file__).parents[2]


def test_pretrain_finetune_evaluate_attack_as_a_user_types_them(cli, folder):
    said = cli("pretrain", "--recipe", "digits", *sets(*TINY))
    assert said.code == 0, said.err
    run = only(folder / "runs", "pretrain")
    for words in (
        "pretrain digits: 32 images of digits/train",
        "labels are used for this look only",
        f"run: {run.relative_to(folder)}",
    ):
        assert words in said.out
    assert f"next: rushkit finetune --from {run.relative_to(folder)}" in said.out
    said = cli("finetune", "--from", "digits")
    assert said.code == 0, said.err
    assert "not loaded: optimizer, projector" in said.out
    assert "new: a head for 10 classes" in said.out
    said = cli("evaluate", "--samples", "1,3")
    assert said.code == 0, said.err
    assert "from the newest run that fits" in said.out
    assert "standard accuracy, digits/test, noise uniform scale 0.3" in said.out
    said = cli(
        "attack", "--type", "pgd", "--limit", "4", "--samples", "1", "--protocol", "paper", *sets("attack.0.steps=2")
    )
    assert said.code == 0, said.err
    assert "it reproduces, it is not the model's robustness" in said.out
    said = cli("runs", "list", "--json")
    assert [row["verb"] for row in json.loads(said.out)["runs"]] == ["attack", "evaluate", "finetune", "pretrain"]
    assert {row["status"] for row in json.loads(said.out)["runs"]} == {"finished"}


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "evaluate"])
def test_json_is_one_document_on_stdout_and_words_go_to_stderr(cli, runs, verb):
    start = ["--recipe", "digits", *sets(*TINY)] if verb == "pretrain" else []
    said = cli(verb, "--json", *start)
    assert said.code == 0, said.err
    assert json.loads(said.out)["stage"] == verb
    assert f"{verb} " in said.err
    assert Path(json.loads(said.out)["run"]).is_dir()


def test_quiet_says_the_result_only(cli, runs):
    said = cli("evaluate", "-q", "--samples", "1")
    assert said.err == ""
    assert "standard accuracy" in said.out
    assert "newest run" not in said.out


def test_verbose_says_more(cli, folder):
    assert "epoch 1/1: loss" in cli("pretrain", "--recipe", "digits", "-v", *sets(*TINY)).out


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_dry_run_trains_nothing_and_writes_nothing(cli, runs, monkeypatch, verb):
    monkeypatch.setattr(loop, "train_batch", None)
    before = contents(runs)
    start = ["--recipe", "digits", *sets(*TINY)] if verb == "pretrain" else []
    said = cli(verb, "--dry-run", *start)
    assert said.code == 0, said.err
    for words in ("dry run", "32 images of digits/train", "2 (1 epoch of 2)", "MMAC a view", "GiB"):
        assert words in said.out
    assert json.loads(cli(verb, "--dry-run", "--json", *start).out)["steps"] == "2 (1 epoch of 2)"
    assert contents(runs) == before


@pytest.mark.parametrize(
    "changes",
    [
        ("attack.0.stepz=3",),
        ("pretrain.batch_size=33",),
        ("pretrain.temprature=1",),
        ("data.name=digit",),
        ("system.trackers=['tensorboard']",),
        ("system.recompute=on", "system.compile=on"),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(fails, folder, monkeypatch, changes):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    start = ["pretrain", "--recipe", "digits", *sets(*TINY, *changes)]
    said = fails(2, *start, "--dry-run")
    assert not (folder / "runs").exists()
    assert fails(2, *start).err == said.err


def test_a_dry_run_of_three_ranks_refuses_what_the_run_refuses(folder):
    words = [sys.executable, "-m", "rushkit", "pretrain", "--recipe", "digits", *sets(*TINY), "--nproc", "3"]
    done = [
        subprocess.run([*words, *more], capture_output=True, text=True, check=False) for more in ([], ["--dry-run"])
    ]
    assert [run.returncode for run in done] == [2, 2]
    for run in done:
        assert "a batch of 16 does not divide over 3 ranks" in run.stderr
        assert "--set pretrain.batch_size=15" in run.stderr


def test_finetune_tells_what_is_right_of_training_and_test_images(cli, runs):
    results = json.loads(cli("finetune", "--json").out)
    accuracy, folder = results["accuracy"], results["run"]
    for split, share, images in (
        ("train", accuracy["training"], accuracy["images"]),
        ("test", accuracy["test"], accuracy["test_images"]),
    ):
        said = cli("evaluate", "--from", folder, "--split", split, "--samples", "1", "--json")
        assert share == json.loads(said.out)["accuracy"][0]["accuracy"]
        assert images == f"32 images of digits/{split}"
    assert f"% of {images}, under one draw of the noise each" in cli("runs", "show", folder).out


def test_with_validation_images_no_test_image_is_looked_at(cli, runs):
    said = cli("finetune", *sets("data.validation=8", "finetune.batch_size=8"))
    assert "right on validation images" in said.out
    assert "32 images of digits/train, under one draw" in said.out
    assert "digits/test" not in said.out


@pytest.mark.parametrize("target", ["digits", "mine.toml"])
def test_transfer_to_a_data_set_or_a_recipe(cli, runs, folder, target):
    (folder / "mine.toml").write_text('extends = "digits"\n[finetune]\nepochs = 1\n')
    said = cli("finetune", "--from", "digits", "--to", target, "--json", *sets(*TINY[:2], "finetune.batch_size=16"))
    assert said.code == 0, said.err
    assert json.loads(said.out)["recipe"] == f"digits-to-{target.removesuffix('.toml')}"


def test_from_takes_a_run_folder_its_name_or_a_checkpoint(cli, runs):
    run = only(runs, "pretrain")
    (checkpoint,) = (run / "checkpoints").glob("*.safetensors")
    for spec in (str(run), run.name, str(checkpoint)):
        said = cli("finetune", "--from", spec, "--json", "-q")
        assert said.code == 0, said.err
        assert Path(json.loads(said.out)["source"]).resolve() == checkpoint.resolve()


def stopping_after(step: int):
    return calling_after_step(step, partial(os.kill, os.getpid(), signal.SIGTERM))


def test_a_stopped_run_says_how_to_go_on_and_resumes_with_its_own_settings(cli, fails, folder, monkeypatch):
    # Neither the folder of data nor the seed and the precision are said again.
    own = ("system.data_dir=there", "system.chunk=5", "system.seed=3", "system.precision=bf16")
    changes = sets(*TINY, "pretrain.epochs=3", *own)
    with stopping_after(3):
        said = fails(130, "pretrain", "--recipe", "digits", *changes)
    assert "stopped at step 3 of 6; everything is saved" in said.err
    run = only(folder / "runs", "pretrain")
    command = said.err.partition("go on with: rushkit ")[2].split()
    assert command == ["pretrain", "--resume", "--run", str(run.relative_to(folder))]
    precisions, step = [], loop.train_batch
    monkeypatch.setattr(loop, "train_batch", lambda *given: precisions.append(given[3].precision) or step(*given))
    said = cli(*command, "--json", *sets("system.device=cpu"))
    assert said.code == 0, said.err
    assert precisions == ["bf16"] * 3
    assert "resumed at step 3 of 6" in said.err
    facts = json.loads((run / "run.json").read_text())
    assert (facts["status"], len(facts["sessions"])) == ("finished", 2)
    steps = [line["step"] for line in read_metrics(run / "metrics.jsonl") if line["kind"] == "step"]
    assert steps == [1, 2, 3, 4, 5, 6]


def steps_saved(run: Path) -> list[int]:
    return [int(path.stem.removeprefix("step-")) for path in sorted((run / "checkpoints").glob("step-*"))]


def test_every_and_keep_say_what_is_saved_and_a_resume_may_change_them(cli, fails, folder):
    changes = sets(*TINY, "pretrain.epochs=5")
    with stopping_after(8):
        fails(130, "pretrain", "--recipe", "digits", *changes, "--every", "2", "--keep", "3")
    run = only(folder / "runs", "pretrain")
    assert steps_saved(run) == [4, 8]
    said = cli("pretrain", "--resume", "--every", "1steps", "--keep", "2")
    assert said.code == 0, said.err
    assert steps_saved(run) == [9, 10]


def test_fine_tuning_takes_every_and_keep(cli, runs):
    said = cli("finetune", *sets("finetune.epochs=5"), "--every", "3steps", "--keep", "2")
    assert said.code == 0, said.err
    assert steps_saved(only(runs, "finetune")) == [9, 10]


@pytest.mark.parametrize("flags", [("--every", "0"), ("--every", "often"), ("--every", "5s"), ("--keep", "two")])
def test_an_interval_that_is_none_is_refused(cli, folder, flags):
    assert cli("pretrain", "--recipe", "digits", *flags).code == 2
    assert not (folder / "runs").exists()


def test_resume_keeps_the_data_folder_of_the_run(cli, fails, folder):
    (folder / "there" / "set").mkdir(parents=True)
    for split in ("train", "test"):
        for label in ("a", "b"):
            place = folder / "there" / "set" / split / label
            place.mkdir(parents=True)
            write_images(place, 16)
    changes = sets(*TINY, "data.name=folder", "data.path=set", "pretrain.epochs=2", "system.data_dir=there")
    with stopping_after(1):
        fails(130, "pretrain", "--recipe", "digits", *changes)
    said = cli("pretrain", "--resume")
    assert said.code == 0, said.err


def write_images(folder: Path, count: int, size: int = 8) -> None:
    from PIL import Image

    for index in range(count):
        Image.new("RGB", (size, size), (index, 2 * index, 3 * index)).save(folder / f"{index}.png")


def test_resume_passes_over_runs_that_never_began(cli, fails, folder):
    with stopping_after(1):
        fails(130, "pretrain", "--recipe", "digits", *sets(*TINY))
    fails(2, "pretrain", "--recipe", "digits", *sets(*TINY, "data.validation=99999"))
    # One that died of a fault in the program keeps its folder, with nothing in it to go on from.
    vain = Run.create(folder / "runs", "pretrain", "digits", Facts(), "", Speaker(-1, rank=0))
    with pytest.raises(ZeroDivisionError), vain:
        raise ZeroDivisionError
    said = cli("pretrain", "--resume")
    assert said.code == 0, said.err
    assert "resumed at step 1 of 2" in said.out


def test_resume_of_fine_tuning_finds_its_source(cli, fails, runs):
    with stopping_after(1):
        fails(130, "finetune", "--from", "digits")
    assert cli("finetune", "--resume").code == 0


def test_resume_of_a_run_whose_source_is_gone_says_so(fails, runs):
    with stopping_after(1):
        fails(130, "finetune", "--from", "digits")
    only(runs, "pretrain").rename(runs / "elsewhere")
    # The run keeps it under a second name, too.
    (only(runs, "finetune") / "parent.safetensors").unlink()
    assert "there is no checkpoint" in fails(1, "finetune", "--resume").err
    assert json.loads((only(runs, "finetune") / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--resume"], "there is no stopped run of pretrain in runs"),
        (["--resume", "--recipe", "stl10"], "there is no stopped run of pretrain of recipe 'stl10'"),
        (["--resume", "--run", "nothing"], "there is no run 'nothing'"),
        (["--resume", "--set", "pretrain.epochs=9"], "it cannot take --set pretrain.epochs=9"),
        (["--resume", "--set", "system.seed=9"], "it cannot take --set system.seed=9"),
        (["--resume", "--recipe", "digist.toml"], "there is no recipe file digist.toml"),
        ([], "which recipe? --recipe is missing"),
    ],
)
def test_a_resume_that_cannot_be_is_explained(fails, runs, arguments, words):
    before = contents(runs)
    assert words in fails(2, "pretrain", *arguments).err
    assert contents(runs) == before


def test_resuming_with_the_wrong_verb_leaves_the_run_as_it_was(fails, runs):
    run = only(runs, "finetune")
    before = contents(runs)
    said = fails(2, "pretrain", "--resume", "--run", str(run))
    assert "is a run of finetune, not of pretrain" in said.err
    assert f"rushkit finetune --resume --run {run}" in said.err
    assert contents(runs) == before


@pytest.mark.parametrize(("verb", "following"), [("pretrain", "finetune"), ("finetune", "evaluate")])
def test_a_finished_training_is_not_resumed_and_says_what_uses_it(fails, runs, verb, following):
    run = only(runs, verb)
    before = contents(runs)
    said = fails(2, verb, "--resume", "--run", str(run))
    assert f"{run} is finished" in said.err
    assert f"rushkit {following} --from {run}" in said.err
    assert contents(runs) == before


def test_ctrl_c_in_a_real_process_saves_and_exits_130(folder):
    changes = sets(*TINY, "pretrain.epochs=5000", "pretrain.knn.every=0", "pretrain.save_every=5000")
    process = subprocess.Popen(
        [sys.executable, "-m", "rushkit", "pretrain", "-v", "--recipe", "digits", *changes],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Blocks until training is under way; a process that dies early closes its output.
    assert any(line.startswith("epoch 1/") for line in process.stdout), process.stderr.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "SIGINT: saving, then stopping" in out
    assert "go on with: rushkit pretrain --resume --run runs/" in err
    assert "Traceback" not in err
    (run,) = folder.glob("runs/*")
    assert (run / "checkpoints" / "last").is_file()
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"


def test_a_supervised_baseline_starts_from_random_weights_under_a_name_of_its_own(cli, folder):
    said = cli("finetune", "--recipe", "digits", *sets(*TINY, "finetune.freeze=none"))
    assert said.code == 0, said.err
    assert "the encoder starts from random weights" in said.out
    assert "not frozen" in said.out
    assert only(folder / "runs", "finetune").name.count("digits-supervised") == 1
    assert cli("evaluate", "--from", "digits-supervised", "--samples", "1").code == 0


@pytest.mark.parametrize("change", [[], ["finetune.freeze=none"]])
def test_a_recipe_that_trains_all_weights_by_itself_keeps_its_name(cli, folder, change):
    said = cli("finetune", "--recipe", "pgd-at-digits", *sets(*TINY, "finetune.steps=1", *change))
    assert said.code == 0, said.err
    assert "pgd-at-digits-supervised" not in said.out
    assert "-finetune-pgd-at-digits-" in only(folder / "runs", "finetune").name


def test_a_frozen_encoder_of_random_weights_is_refused(fails):
    assert "--set finetune.freeze=none" in fails(2, "finetune", "--recipe", "digits", *sets(*TINY)).err


def test_a_supervised_baseline_takes_no_source(fails):
    said = fails(2, "finetune", "--recipe", "digits", "--from", "digits", *sets("finetune.freeze=none"))
    assert "--from and --to do not go with it" in said.err


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_resume_is_no_dry_run(fails, verb):
    assert "--dry-run trains nothing" in fails(2, verb, "--resume", "--dry-run").err


def test_a_student_learns_from_the_run_that_from_names(cli, fails, runs):
    teacher = only(runs, "pretrain")
    begin = ("pretrain", "--recipe", "deacl-digits", "--from", "digits", *sets(*TINY, "pretrain.steps=1"))
    assert cli(*begin, "--dry-run").code == 0
    with stopping_after(1):
        fails(130, *begin)
    run = only(runs, "pretrain")
    teacher.rename(runs / "elsewhere")
    said = cli("pretrain", "--resume")
    assert said.code == 0, said.err
    assert f"the teacher: {teacher.relative_to(runs.parent)}/checkpoints/" in said.out
    assert "on the clean views, without noise" in said.out
    (runs / "elsewhere").rename(teacher)
    said = cli("runs", "show", run.name)
    assert f"built on: {teacher.name}" in said.out
    assert "  teacher: runs/" in said.out
    said = cli("finetune", "--from", "deacl-digits")
    assert said.code == 0, said.err
    assert "not loaded: optimizer" in said.out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--recipe", "deacl-digits"], "learns from a teacher, and none is named"),
        (["--recipe", "digits", "--from", "digits"], "objective 'rush' learns from no teacher: digits does not go"),
        (["--recipe", "deacl-digits", "--from", "stl10"], "no finished run of pretrain or finetune of recipe 'stl10'"),
        (["--recipe", "deacl-digits", "--from", "digits"], "takes images of 8x8, and the student's are 16x16"),
        (
            ["--resume", "--from", "digits"],
            "--resume goes on with what the run was started with; it cannot take --from",
        ),
    ],
)
def test_a_teacher_that_cannot_be_is_explained(fails, runs, arguments, words):
    before = contents(runs)
    assert words in fails(2, "pretrain", *arguments).err
    assert contents(runs) == before
