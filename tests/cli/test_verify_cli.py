"""``rushkit verify`` and ``attack --artifact``: what is said, exit codes, and that a stranger's code never runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import only

ATTACK = ("attack", "--type", "pgd", "--protocol", "paper", "--samples", "2", "--limit", "12", "--eps", "0.1", "-q")
SHORT = ("--set", "attack.0.steps=2")
NET = """
from pathlib import Path

import torch
from torch import nn

Path("ran.txt").write_text("the code ran")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 10)
        self.layer.weight.data = torch.randn(10, 192, generator=torch.Generator().manual_seed(0))
        self.layer.bias.data.zero_()

    def forward(self, x):
        return self.layer(x.flatten(1))
"""


@pytest.fixture
def packed(cli, runs, folder) -> Path:
    """The artifact of an attack on the trained model, with its weights, and its run beside it."""
    said = cli(*ATTACK, *SHORT, "--artifact", "claim.rushkit", "--with-weights")
    assert said.code == 0, said.err
    return folder / "claim.rushkit"


def test_an_artifact_is_verified_where_nothing_else_is(packed, tmp_path):
    """In another process, in an empty folder, without runs."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    shutil.copy(packed, place)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RUSHKIT_RUNS")}
    done = subprocess.run(
        [sys.executable, "-m", "rushkit", "verify", "claim.rushkit", "--json", "-q"],
        cwd=place,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (attack,) = json.loads(done.stdout)["attacks"]
    assert attack["sentence"].startswith("12 images, all within l-inf 0.1 and [0, 1], hashes match; now ")
    assert [check["code"] for check in attack["checks"] if check["status"] == "fail"] == []


def test_what_is_said_of_an_artifact(cli, packed):
    said = cli("verify", str(packed), "--seed", "3")
    assert said.code == 0, said.out
    assert ": consistent\n" in said.out
    for words in (
        "RV01 outside-the-ball",
        "On these 12 images (the first 12 of a fixed order of digits/test after data.limit = 32) ",
        "leaves at most",
        "m = 2, noise ",
        "% of the same images clean",
        "Only the protocol strict may be quoted, and this is not it.",
        "A stronger attack may leave fewer",
        "What this cannot show: that no stronger attack exists",
    ):
        assert words in said.out, words
    assert "robust accuracy is" not in said.out
    run = only(packed.parent / "runs", "verify")
    assert json.loads((run / "results.json").read_text())["seed"] == 3
    assert cli("runs", "list").code == cli("runs", "show", run.name).code == 0


def test_an_altered_artifact_exits_with_one(cli, packed):
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    packed.write_bytes(data)
    said = cli("verify", str(packed))
    assert (said.code, "does not fit its checksum" in said.err) == (1, True)


def test_a_run_is_verified_and_packed_later(cli, packed):
    run = only(packed.parent / "runs", "attack")
    said = cli("verify", run.name, "--artifact", "later.rushkit", "--with-weights", "--seed", "1")
    assert said.code == 0, said.out + said.err
    assert (packed.parent / "later.rushkit").read_bytes() == packed.read_bytes()


def test_without_weights_the_model_is_found_or_named(cli, runs, folder):
    assert cli(*ATTACK, *SHORT, "--artifact", "claim.rushkit").code == 0
    assert cli("verify", "claim.rushkit", "--seed", "1").code == 0
    shutil.move(folder / "runs", folder / "moved")
    said = cli("verify", "claim.rushkit", "--seed", "1")
    assert (said.code, "not scored again" in said.out, ": incomplete" in said.out) == (1, True, True)
    assert "On these 12 images" not in said.out, "nothing may be said of what was not scored"
    assert "--from RUN" in said.out
    model = only(folder / "moved", "finetune")
    assert cli("verify", "claim.rushkit", "--from", str(model), "--seed", "1").code == 0
    said = cli("verify", "claim.rushkit", "--from", "shipped/digits", "--seed", "1")
    assert (said.code, "On these 12 images" in said.out) == (1, False)


def test_code_of_a_stranger_never_runs(cli, folder):
    (folder / "net.py").write_text(NET)
    given = ("--model", "net.py:Net", "--data", "digits", "--input-size", "8")
    assert cli(*ATTACK, *SHORT, *given, "--artifact", "claim.rushkit").code == 0
    (folder / "ran.txt").unlink()
    said = cli("verify", "claim.rushkit")
    assert (said.code, "the model is code of its author, net.py:Net" in said.out) == (1, True)
    assert not (folder / "ran.txt").exists()
    assert cli("verify", "claim.rushkit", "--model", "net.py:Net", "--input-size", "8").code == 0
    assert (folder / "ran.txt").exists()
    (folder / "net.py").write_text(NET.replace("manual_seed(0)", "manual_seed(1)"))
    said = cli("verify", "claim.rushkit", "--model", "net.py:Net", "--input-size", "8")
    assert (said.code, "RV07 other-weights" in said.out) == (1, True)


def test_weights_of_code_are_refused_before_the_attack(fails, folder):
    (folder / "net.py").write_text(NET)
    given = ("--model", "net.py:Net", "--data", "digits", "--input-size", "8")
    said = fails(2, *ATTACK, *SHORT, *given, "--artifact", "claim.rushkit", "--with-weights")
    assert "net.py:Net is code, which an artifact never holds" in said.err
    assert not (folder / "runs").exists()


def test_an_attack_without_saved_images_says_what_would_save_them(fails, cli, runs):
    assert cli(*ATTACK, *SHORT).code == 0
    said = fails(2, "verify", only(runs, "attack").name)
    assert "saved no images" in said.err
    assert "--save" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("verify", "nothing"), "there is no run 'nothing'"),
        (("verify", "gone/claim.rushkit"), "an artifact is a file, and none lies there"),
        (("verify", "shipped/digits"), "has no finished attack to verify"),
        (("verify", "shipped/digits", "--set", "noise.scale=3"), "by the recipe that it was made with"),
        (("verify", "x", "--with-weights"), "--with-weights without --artifact"),
        (("attack", "--artifact", "there/is/none"), "lies in a folder that is not there"),
        (("attack", "--with-weights"), "--with-weights without --artifact"),
        (("attack", "--type", "pgd", "--eps", "0.1,0.2", "--artifact", "a"), "attacks could be packed"),
        (("attack", "--type", "pgd", "--target", "1", "--artifact", "a"), "--artifact packs images of attacks"),
    ],
)
def test_bad_input_has_one_message(fails, runs, words, message):
    assert message in fails(2, *words).err


def test_nothing_is_overwritten(fails, packed):
    assert "is there already" in fails(2, "attack", "--artifact", str(packed)).err
