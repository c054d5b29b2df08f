"""A collapsed pre-training is called so, once; one that learns, or has only just begun, is not."""

from __future__ import annotations

import json
import math

import pytest
import torch
from tiny_runs import QUIET, die, pretrained

from rushkit.objectives import Contrasts, create
from rushkit.objectives.nt_xent import nt_xent
from rushkit.run.names import LOG_FILE
from rushkit.setup.start import start_run
from rushkit.training import collapse
from rushkit.training.collapse import effective_rank, stands_at
from rushkit.training.pretrain import pretrain


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


def test_the_effective_rank_of_known_features():
    chance = torch.Generator().manual_seed(0)
    same = unit(torch.ones(50, 8))
    assert effective_rank(same) == 1.0
    # Rounding to bf16 is no spread.
    assert effective_rank(unit(torch.rand(1, 8, generator=chance).expand(50, 8)).bfloat16().float()) == 1.0
    line = unit(torch.stack([torch.ones(50), torch.linspace(-0.2, 0.2, 50)], dim=1))
    assert effective_rank(line) == pytest.approx(1, abs=0.02)
    # As many axes with the same spread have their number as rank.
    axes = torch.cat([torch.eye(8), -torch.eye(8)])
    assert effective_rank(axes) == pytest.approx(8)
    assert effective_rank(unit(torch.randn(4000, 8, generator=chance))) == pytest.approx(8, rel=0.01)
    # A network that has diverged has not collapsed.
    assert effective_rank(torch.tensor([[1.0, 0.0], [float("nan"), 0.0]])) == math.inf


@pytest.mark.parametrize("name", ["rush", "simclr", "acl", "dynacl"])
def test_equal_projections_have_the_loss_that_an_objective_says(name):
    objective = create(name)
    assert isinstance(objective, Contrasts)
    z = torch.ones(16, 4)
    for temperature in (0.1, 0.5, 7.0):
        assert nt_xent(z, z, temperature).item() == pytest.approx(objective.chance_loss(16), rel=1e-6)
    assert objective.chance_loss(16) == math.log(31)
    assert not isinstance(create("byol"), Contrasts)


def test_a_loss_stands_after_three_epochs_at_the_value():
    chance = math.log(31)
    assert stands_at([9.0, chance, chance - 0.01, chance + 0.01], chance)
    assert not stands_at([chance, chance], chance)
    assert not stands_at([chance, chance, chance * 0.99], chance)


def texts(run):
    return (run.path / LOG_FILE).read_text()


@pytest.fixture
def spread(monkeypatch):
    """Features that are as they should be, so that only the loss can tell."""
    monkeypatch.setattr(collapse, "rank_of", lambda *_: 5.0)


@pytest.mark.usefixtures("spread")
def test_a_network_that_gives_all_images_one_projection_is_told_of_once(tiny, monkeypatch, capsys):
    monkeypatch.setattr("rushkit.objectives.nt_xent.nt_xent", lambda z1, z2, *_: nt_xent(0 * z1 + 1, 0 * z2 + 1, 0.5))
    recipe = tiny("pretrain.epochs=5")
    run = pretrained(recipe)
    (note,) = json.loads((run.path / "results.json").read_text())["notes"]
    assert note["code"] == "collapsed"
    assert "the loss stands at ln(2B - 1) = 3.434" in note["text"]
    assert "--set pretrain.schedule.warmup_epochs=10" in note["text"]
    assert note["figures"] == {"loss": pytest.approx(math.log(31)), "chance_loss": math.log(31)}
    assert texts(run).count("collapse: ") == 1
    assert capsys.readouterr().err.count("warning: collapse") == 1
    # Before three epochs, or while the rate still warms up, it has only begun.
    for changes in (["pretrain.epochs=2"], ["pretrain.epochs=5", "pretrain.schedule.warmup_epochs=3"]):
        assert "notes" not in json.loads((pretrained(tiny(*changes)).path / "results.json").read_text())


def test_features_of_rank_one_are_a_collapse_under_any_objective_and_are_float32(tiny, monkeypatch):
    seen = set()

    def features(encoder, images, machine):
        seen.add(machine.precision)
        return torch.ones(len(images), 4) / 2

    monkeypatch.setattr(collapse, "features", features)
    run = pretrained(tiny("pretrain.objective=byol", "pretrain.knn.every=0", "system.precision=bf16"))
    assert seen == {"float32"}
    (note,) = json.loads((run.path / "results.json").read_text())["notes"]
    assert note["figures"] == {"effective_rank": 1.0}
    assert "the features of 48 training images have effective rank 1.00" in note["text"]


def test_a_training_that_learns_has_no_note(tiny):
    run = pretrained(tiny("pretrain.epochs=4"))
    assert "notes" not in json.loads((run.path / "results.json").read_text())
    assert "collapse" not in texts(run)


def test_the_look_draws_nothing_and_changes_no_weight(tiny, monkeypatch):
    one = pretrained(tiny()).checkpoints.load_latest()
    monkeypatch.setattr(collapse, "rank_of", lambda *_: 5.0)
    other = pretrained(tiny()).checkpoints.load_latest()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in other.tensors)


def test_resumed_after_its_last_step_it_says_so_still(tiny, monkeypatch):
    monkeypatch.setattr(collapse, "rank_of", lambda *_: 1.0)
    recipe = tiny()
    with monkeypatch.context() as patch:
        patch.setattr("rushkit.run.folder.Run.write_results", lambda *_: die())
        with pytest.raises(RuntimeError), start_run("pretrain", recipe, QUIET) as run:
            pretrain(recipe, run)
    with type(run).open(run.path, QUIET) as again:
        assert [note.code for note in pretrain(recipe, again).notes] == ["collapsed"]
