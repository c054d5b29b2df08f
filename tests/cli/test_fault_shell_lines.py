"""A hint that is a shell line quotes what it contains: pasted, it names the thing and runs nothing else."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest
import safetensors.torch
import torch
from commands import TINY, only, sets

import rushkit

EVIL = "a b$(touch ran);`id`'x"


def words_after(text: str, *start: str) -> list[str]:
    """What a shell makes of the line that begins like this, up to a comma or semicolon behind it."""
    begin = " ".join(start)
    line = next(line for line in text.splitlines() if begin in line)
    return shlex.split(line[line.index(begin) :])


@pytest.fixture
def evil_runs(runs):
    """The trained runs in a folder of an evil name, and that folder."""
    root = runs.with_name(EVIL)
    shutil.move(runs, root)
    return root


def test_the_next_step_after_training(cli, folder):
    said = cli("pretrain", "--recipe", "digits", *sets(*TINY, f"system.runs_dir={EVIL}"))
    assert said.code == 0, said.err
    run = only(folder / EVIL, "pretrain")
    assert words_after(said.out, "rushkit finetune") == ["rushkit", "finetune", "--from", f"{EVIL}/{run.name}"]


def test_the_steps_of_runs_show(cli, evil_runs):
    for verb, following in (("pretrain", "finetune"), ("finetune", "evaluate")):
        path = f"{EVIL}/{only(evil_runs, verb).name}"
        words = words_after(cli("runs", "show", path).out, f"rushkit {following}")
        assert words[:3] == ["rushkit", following, "--from"]
        # The next verbs stand behind a comma.
        assert words[3].removesuffix(",") == path


def test_the_step_of_runs_show_for_a_stopped_run_quotes_its_folder(cli, evil_runs):
    run = only(evil_runs, "finetune")
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"status": "interrupted"}))
    said = cli("runs", "show", f"{EVIL}/{run.name}")
    line = ["rushkit", "finetune", "--resume", "--run", f"{EVIL}/{run.name}"]
    assert words_after(said.out, "rushkit finetune --resume") == line


def test_a_run_of_another_verb(fails, evil_runs):
    path = f"{EVIL}/{only(evil_runs, 'finetune').name}"
    said = fails(2, "pretrain", "--resume", "--run", path)
    assert words_after(said.err, "rushkit finetune") == ["rushkit", "finetune", "--resume", "--run", path]


def test_a_finished_run_that_is_to_be_resumed(fails, evil_runs):
    path = f"{EVIL}/{only(evil_runs, 'pretrain').name}"
    words = words_after(fails(2, "pretrain", "--resume", "--run", path).err, "rushkit finetune")
    assert words[3].removesuffix(";") == path


def test_run_without_resume(fails):
    words = words_after(fails(2, "pretrain", "--recipe", "digits", "--run", EVIL).err, "--resume --run")
    assert words[2].removesuffix(";") == EVIL


def test_an_encoder_where_a_classifier_is_needed(fails, evil_runs):
    path = f"{EVIL}/{only(evil_runs, 'finetune').name}"
    words = words_after(fails(2, "finetune", "--from", path).err, "--from")
    assert words[1] == f"{EVIL}/{only(evil_runs, 'pretrain').name}"


def test_a_file_of_another_suffix_to_export_to(fails):
    words = words_after(fails(2, "export", "--to", f"{EVIL}.pt").err, "--to")
    assert words[1].removesuffix(";") == f"{EVIL}.safetensors"


def test_a_recipe_that_was_copied(cli):
    words = words_after(cli("recipe", "copy", "digits", f"{EVIL}.toml").out, "rushkit pretrain")
    assert words == ["rushkit", "pretrain", "--recipe", f"{EVIL}.toml"]


def test_an_argument_that_lacks_its_option(fails):
    words = words_after(fails(2, "evaluate", "a'b;c").err, "--from")
    assert words[1].removesuffix("?") == "a'b;c"


def test_tensors_under_foreign_names(fails, folder):
    evil = "x;touch ran;y"
    network = rushkit.registries.backbones.create("resnet10-small", in_channels=3, image_size=32)
    tensors = {name.replace("layer3", evil): tensor for name, tensor in network.state_dict().items()}
    tensors |= {"fc.weight": torch.zeros(10, 128), "fc.bias": torch.zeros(10)}
    safetensors.torch.save_file(tensors, folder / "w.safetensors")
    said = fails(1, "import", "w.safetensors", "--backbone", "resnet10-small", "--data", "digits")
    (rule,) = [word for word in words_after(said.err, "--rename") if word.startswith(evil)]
    assert rule.partition("=")[0] == evil
