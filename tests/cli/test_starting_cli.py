"""``pretrain --init`` and ``pretrain --extend`` as a user meets them, and their bad inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import TINY, only, sets
from torch import nn

from rushkit.models.network import build_backbone

SMALL = sets(*TINY, "backbone.name=resnet10-small")
RECIPE = ("pretrain", "--recipe", "digits", *SMALL)


def saved(name, prefix="", head=False, backbone="resnet10-small", **options):
    state = build_backbone(backbone, options, 3, 8, 1).state_dict()
    tensors = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    if head:
        tensors |= {f"fc.{key}": tensor for key, tensor in nn.Linear(128, 10).state_dict().items()}
    torch.save({"state_dict": tensors, "epoch": 3}, name)
    return state


def facts(run, name="run.json"):
    return json.loads((run / name).read_text())


@pytest.fixture
def trained(cli, folder):
    assert cli(*RECIPE, "-q").code == 0
    return only(Path("runs"), "pretrain")


def test_from_a_run_with_another_seed(cli, trained):
    said = cli(*RECIPE, "--init", str(trained), "--seed", "5")
    assert said.code == 0, said.err
    assert "start: the encoder of" in said.out
    assert "come again" not in said.out
    run = only(Path("runs"), "pretrain")
    assert facts(run)["init"].startswith(str(trained))
    assert facts(run, "results.json")["started"]["projector"] is True
    listed = cli("runs", "show", str(run))
    assert listed.code == 0, listed.err


def test_the_same_seed_again_is_said(cli, trained):
    assert (
        "seed 0 is that of the training before"
        in cli(*RECIPE, "--init", "digits", "--dry-run").out + cli(*RECIPE, "--init", str(trained)).out
    )


def test_a_finished_training_goes_on(cli, fails, trained):
    said = cli("pretrain", "--extend", str(trained), "--epochs", "2")
    assert said.code == 0, said.err
    assert "goes on after its 1 epoch" in said.out
    run = only(Path("runs"), "pretrain")
    assert run != trained
    assert facts(run, "results.json")["epochs"] == 2
    assert "has had 2 epochs, and is asked for 2" in fails(2, "pretrain", "--extend", str(run)).err
    said = fails(2, "pretrain", "--extend", str(run), "--epochs", "4", "--lr", "1")
    assert "cannot take --lr" in said.err


def test_a_student_goes_on_with_the_teacher_that_it_had(cli, fails, trained):
    student = ("pretrain", "--recipe", "deacl-digits", *SMALL, "--set", "pretrain.steps=1", "-q")
    assert cli(*student, "--from", str(trained)).code == 0
    run = only(Path("runs"), "pretrain")
    assert cli("pretrain", "--extend", str(run), "--epochs", "2").code == 0
    longer = only(Path("runs"), "pretrain")
    assert facts(longer)["hashes"]["parent"] == facts(run)["hashes"]["parent"]
    said = fails(2, "pretrain", "--extend", str(longer), "--epochs", "3", "--from", str(run))
    assert "is not the teacher that the training had" in said.err


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_from_somebody_elses_file_with_its_hash(cli, folder, prefix):
    state = saved("theirs.pt", prefix)
    still = sets("pretrain.optimizer.lr=1e-30", "pretrain.optimizer.weight_decay=0")
    said = cli(*RECIPE, *still, "--init", "theirs.pt")
    assert said.code == 0, said.err
    run = only(Path("runs"), "pretrain")
    about, results = facts(run), facts(run, "results.json")
    assert about["init"] == "theirs.pt"
    assert results["started"]["hash"] == about["init_origin"]["sha256"]
    from rushkit.run.checkpoint import load_checkpoint

    (latest,) = (run / "checkpoints").glob("step-*")
    assert torch.equal(load_checkpoint(latest).tensors["encoder.conv1.weight"], state["conv1.weight"])


def test_a_classifiers_file_gives_its_encoder_and_says_what_it_leaves(cli, folder):
    saved("theirs.pt", head=True)
    said = cli(*RECIPE, "--init", "theirs.pt", "--dry-run")
    assert said.code == 0, said.err
    assert "the head 'fc' is left out" in said.out
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (("--init", "nowhere"), 2, "nowhere"),
        (("--init", "wide.pt"), 1, "the tensors do not fit the backbone"),
        (("--init", "wide.pt"), 1, "rushkit import wide.pt --encoder-only"),
        (("--init", "wide.pt"), 1, "they fit another backbone: --backbone resnet20"),
        (("--init", "torn.pt"), 1, "neither a whole safetensors file"),
        (("--init", "empty.safetensors"), 1, "is empty"),
    ],
)
def test_what_cannot_be_started_from(fails, folder, flags, code, says):
    saved("wide.pt", backbone="resnet20")
    Path("torn.pt").write_bytes(b"\x00\x01" * 99)
    Path("empty.safetensors").touch()
    said = fails(code, *RECIPE, *flags)
    assert says in said.err
    assert not Path("runs").exists()


def test_weights_of_another_backbone_name_the_settings_for_it(fails, trained):
    other = ("pretrain", "--recipe", "digits", *sets(*TINY, "backbone.name=resnet20"))
    said = fails(2, *other, "--init", str(trained))
    assert "has the backbone resnet10-small, and the recipe resnet20" in said.err
    assert "--set backbone.name=resnet10-small" in said.err


def test_a_damaged_checkpoint_is_not_started_from(fails, trained):
    (latest,) = (trained / "checkpoints").glob("step-*")
    data = bytearray(latest.read_bytes())
    data[-5] ^= 255
    latest.write_bytes(data)
    assert "is altered" in fails(1, *RECIPE, "--init", str(latest)).err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--recipe", "digits", "--extend", "digits"), "--recipe does not go with it"),
        (("--extend", "digits", "--init", "digits"), "--init does not go with it"),
        (("--resume", "--init", "digits"), "it cannot take --init"),
        (("--resume", "--extend", "digits"), "it cannot take --extend"),
        (("--init", "digits"), "--recipe is missing"),
    ],
)
def test_words_that_contradict_one_another(fails, words, says):
    assert says in fails(2, "pretrain", *words).err
