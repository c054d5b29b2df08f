"""``--surrogate`` on the command line: recorded, named in the row, asked for again where a run goes on, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rushkit.robustness import attack as attack_stage

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 10)
        self.layer.weight.data = torch.randn(10, 192, generator=torch.Generator().manual_seed(0))

    def forward(self, x):
        return self.layer((x * 3).round().flatten(1))


def smooth(real):
    assert isinstance(real, Net), "one file is run once"
    return lambda x: real.layer(3 * x.flatten(1))


def seven(real):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7))


def across(model, x, y, eps, norm, seed):
    return x + 2 * eps


def coarse(x):
    return (x * 3).round() / 3
"""
MODEL = ("--model", "net.py:Net", "--data", "digits", "--input-size", "8")
ATTACK = ("attack", *MODEL, "--type", "pgd", "--eps", "0.1", "--limit", "6", "--protocol", "strict")
SURROGATE = ("--surrogate", "net.py:smooth")


@pytest.fixture(autouse=True)
def net(folder) -> Path:
    (folder / "net.py").write_text(NET)
    return folder / "net.py"


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs").glob("*-attack-*")
    return run


def test_a_row_says_that_its_gradients_are_a_surrogates(cli, folder):
    said = cli(*ATTACK, *SURROGATE)
    assert said.code == 0, said.err
    assert "gradients of net.py:smooth" in said.out
    (row,) = json.loads((only_run(folder) / "results.json").read_text())["attacks"]
    assert row["protocol"] == "strict"
    assert row["surrogate"]["code"] == "net.py:smooth"
    assert len(row["surrogate"]["sha256"]) == 64
    said = cli("report", only_run(folder).name, "--json")
    (deviation,) = json.loads(said.out)["models"][0]["attacks"][0]["deviations"]
    assert (deviation["name"], deviation["value"], deviation["weaker"]) == ("surrogate", "net.py:smooth", False)


def test_a_report_shows_what_each_image_fell_to_and_how_the_surrogate_answers(cli, folder):
    said = cli(*ATTACK, *SURROGATE, "--also", "net.py:across")
    assert (said.code, "stand-ins beside the model" in said.out) == (0, True), said.err
    assert cli("report", only_run(folder).name, "--no-images", "--out", "page", "-q").code == 0
    html, markdown, data = ((folder / "page" / f"report.{kind}").read_text() for kind in ("html", "md", "json"))
    for words in ("<h3>Which image fell to what</h3>", "<h3>Stand-ins</h3>", "net.py:smooth"):
        assert words in html
    assert "### Which image fell to what" in markdown
    assert "| net.py:smooth (" in markdown
    (row,) = json.loads(data)["models"][0]["attacks"]
    (attacked,) = json.loads((only_run(folder) / "results.json").read_text())["attacks"]
    fell = [index for images in row["fell_to"].values() for index in images]
    assert sorted(fell) == sorted(attacked["outcomes"]["indices"])
    assert row["surrogate"]["stands_for"] == "model"
    (own,) = row["own"]
    assert own["code"] == "net.py:across"


def test_an_artifact_says_what_took_part_without_folders(cli, folder):
    # Of this many images some are right, and in a ball this small they are left for the own attack, which goes beyond.
    small = [{"0.1": "0.001", "6": "60"}.get(word, word) for word in ATTACK]
    said = cli(*small, *SURROGATE, "--also", "net.py:across", "--artifact", "claim.rushkit", "-q")
    assert said.code == 0, said.err
    assert str(folder).encode() not in (folder / "claim.rushkit").read_bytes()
    said = cli("verify", "claim.rushkit", *MODEL[:2], "--json")
    assert said.code == 0, said.out
    (attack,) = json.loads(said.out)["attacks"]
    assert "gradients of net.py:smooth, with net.py:across, m = 1" in attack["claim"]
    (check,) = [check for check in attack["checks"] if check["code"] == "RV22"]
    assert check["status"] == "pass"
    for words in ("the gradients of net.py:smooth (hash ", "own net.py:across (hash ", "images projected", "statement"):
        assert words in check["says"]


def test_a_run_that_goes_on_asks_for_the_code_again(cli, folder, monkeypatch):
    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(attack_stage, "run_job", stop)
        assert cli(*ATTACK, *SURROGATE).code == 130
    going_on = ("attack", "--resume", "--run", str(only_run(folder)), "--model", "net.py:Net")
    said = cli(*going_on)
    assert said.code == 2
    assert "the surrogate is code, net.py:smooth" in said.err
    assert f"--surrogate {folder / 'net.py'}:smooth" in said.err
    assert cli(*going_on, *SURROGATE).code == 0


def test_fronts_of_a_run_take_identity(cli, folder):
    front = ("--from", "shipped/digits", "--front", "net.py:coarse", "--surrogate", "identity")
    said = cli("attack", *front, "--type", "pgd", "--limit", "2", "--samples", "1", "--eot", "1", "--protocol", "paper")
    assert said.code == 0, said.err
    (row,) = json.loads((only_run(folder) / "results.json").read_text())["attacks"]
    assert (row["surrogate"]["code"], row["surrogate"]["stands_for"]) == ("identity", "fronts")


def test_a_published_attack_takes_none(fails):
    words = ("published" if word == "strict" else word for word in ("attack", *MODEL, "--protocol", "strict"))
    assert "--surrogate would change them" in fails(2, *words, *SURROGATE).err


def test_an_attack_of_ones_own_is_named_in_the_row_with_what_it_adds(cli, folder):
    said = cli(*ATTACK, *SURROGATE, "--also", "net.py:across")
    assert said.code == 0, said.err
    assert "gradients of net.py:smooth, with net.py:across" in said.out
    assert "which image fell to what first" in said.out
    (row,) = json.loads((only_run(folder) / "results.json").read_text())["attacks"]
    assert [own["code"] for own in row["own"]] == ["net.py:across"]
    assert row["candidates"][-1]["label"] == "net.py:across"
    assert "net.py:across" in row["contributions"] or not row["outcomes"]["right"]["majority"].count(1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--surrogate", "net.py:seven"), "returned 7 classes, and the model has 10"),
        (("--surrogate", "net.py:lost"), "there is no lost in net.py"),
        (("--surrogate", "gone.py:smooth"), "gone.py"),
        (("--surrogate", "net.py"), "does not say which name in it is meant"),
        (("--surrogate", "identity"), "nothing is before this one"),
        (("--surrogate", "broken.py:smooth"), "broken.py cannot be imported: SyntaxError"),
        (("--also", "broken.py:smooth"), "broken.py cannot be imported: SyntaxError"),
        (("--also", "net.py:lost"), "there is no lost in net.py"),
        (("--also", "net.py:coarse"), "cannot be called as an attack"),
        (("--also", "net.py:across", "--target", "3"), "told of no target"),
        (("--also", "net.py:across", "--also", "net.py:across"), "two attacks are called net.py:across"),
    ],
)
def test_what_is_none_leaves_one_message_and_no_run(words, says, fails, folder):
    (folder / "broken.py").write_text("def smooth(:\n")
    said = fails(3 if "broken" in says else 2, *ATTACK, *words)
    assert says in said.err
    assert not (folder / "runs").exists()
