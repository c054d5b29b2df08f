"""What names a run: one rule, whoever asks."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from rushkit.errors import UsageError
from rushkit.recipe.load import derive_recipe, load_recipe
from rushkit.recipe.toml import dumps
from rushkit.run.info import find_runs
from rushkit.run.named import find_named, run_named, short_ids
from rushkit.run.source import Source
from rushkit.run.stored_recipe import noise_of_run

GAUSSIAN = ["noise.name=gaussian", "noise.std=0.25"]


class Folders:
    """Run folders with a recipe, each a minute after the one before."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def add(self, tail: str, *changes: str, verb: str = "finetune", status: str = "finished") -> str:
        self.count += 1
        recipe = load_recipe("digits", changes, {})
        name = f"20300101-00{self.count:02d}00-{verb}-{recipe.name}-{tail}"
        (self.root / name).mkdir(parents=True)
        told = {"verb": verb, "recipe": recipe.name, "status": status, "started": f"2030-01-01T00:{self.count:02d}:00"}
        (self.root / name / "run.json").write_text(json.dumps(told))
        (self.root / name / "recipe.toml").write_text(dumps(recipe.resolved()))
        return name


@pytest.fixture
def folders(tmp_path) -> Folders:
    return Folders(tmp_path / "runs")


def named(spec: str, root: Path) -> str:
    return run_named(spec, root)[0].path.name


def test_an_id_its_end_a_path_and_a_recipe_name_a_run(folders, monkeypatch):
    root, run = folders.root, folders.add("ab12cd")
    other = folders.add("99ffcd", verb="evaluate")
    for spec in (run, "ab12cd", "2cd", "digits-ab12cd", "digits", str(root / run), f"runs/{run}"):
        monkeypatch.chdir(root.parent)
        assert named(spec, root) == run
    assert named("ffcd", root) == other
    monkeypatch.setenv("HOME", str(root.parent))
    assert named(f"~/runs/{other}", root) == other


def test_an_end_that_several_have_lists_them(folders):
    first, second = folders.add("aaa1cd"), folders.add("bbb1cd")
    with pytest.raises(UsageError) as caught:
        run_named("1cd", folders.root)
    assert caught.value.message == f"2 runs end in '1cd': {first}, {second}"
    assert "write more" in caught.value.hint


def test_an_end_is_no_letter_or_two(folders):
    folders.add("ab12cd")
    for spec in ("d", "cd", ""):
        assert find_named(spec, folders.root) is None


def test_a_name_that_is_none_gets_the_nearest(folders):
    folders.add("ab12cd")
    with pytest.raises(UsageError, match="there is no run 'digitz'") as caught:
        run_named("digitz", folders.root)
    assert caught.value.hint == "did you mean digits? `rushkit runs list` shows the runs"
    with pytest.raises(UsageError, match="neither a run folder nor a checkpoint"):
        run_named("runs/gone", folders.root)


def test_the_name_of_a_run_says_which_components_are_not_the_recipes(folders):
    assert "-digits+gaussian-std-0.25-" in folders.add("000001", *GAUSSIAN)
    assert "-digits+uniform-0.5-" in folders.add("000002", "noise.scale=0.5")
    assert "-digits+resnet18-" in folders.add("000003", "backbone.name=resnet18")
    assert "-digits+trades-" in folders.add("000004", "finetune.objective=trades")
    assert "-digits+pets-" in folders.add("000005", "data.name=folder", "data.path=photos/pets")
    for same in ("noise.scale=0.3", "noise.name=uniform", "pretrain.epochs=1", "attack.0.eps=0.1"):
        assert load_recipe("digits", [same], {}).name == "digits"


def test_a_name_that_is_given_stays_and_a_changed_one_is_inherited():
    assert load_recipe("digits", ["name=mine", *GAUSSIAN], {}).name == "mine"
    changed = load_recipe("digits", GAUSSIAN, {})
    assert derive_recipe(changed, (), {}).name == "digits+gaussian-std-0.25"
    assert derive_recipe(changed, ["finetune.objective=trades"], {}).name == "digits+gaussian-std-0.25+trades"


def test_a_recipe_means_its_own_noise_and_says_that_there_are_others(folders):
    own = folders.add("000001")
    assert run_named("digits", folders.root)[1] == ""
    changed = folders.add("000002", *GAUSSIAN)
    run, note = run_named("digits", folders.root)
    assert run.path.name == own
    assert note == (
        f"digits: took {run.path} (digits, noise uniform 0.3); "
        f"others of this name: {changed} (digits+gaussian-std-0.25, noise gaussian std 0.25)"
    )
    assert run_named("digits+gaussian-std-0.25", folders.root)[1] == ""
    assert named("digits+gaussian-std-0.25", folders.root) == changed


def test_where_there_is_only_another_noise_it_is_taken_and_said(folders):
    changed = folders.add("000001", *GAUSSIAN)
    run, note = run_named("digits", folders.root)
    assert run.path.name == changed
    assert note == f"digits: took {run.path} (digits+gaussian-std-0.25, noise gaussian std 0.25)"


def test_a_recipe_that_was_edited_has_runs_of_two_noises(folders):
    old, new = folders.add("000001"), folders.add("000002")
    path = folders.root / old / "recipe.toml"
    path.write_text(path.read_text().replace("scale = 0.3", "scale = 0.1"))
    run, note = run_named("digits", folders.root)
    assert run.path.name == new
    assert f"others of this name: {old} (digits, noise uniform 0.1)" in note


def test_the_note_is_said_when_the_source_is_loaded(folders, caplog):
    folders.add("000001")
    said: list[str] = []
    source = Source(run_named("digits", folders.root)[0], note="took it")
    with pytest.raises(Exception, match="no checkpoint"):
        source.load(warn=said.append)
    assert said == ["took it"]
    with caplog.at_level(logging.WARNING), pytest.raises(Exception, match="no checkpoint"):
        source.load()
    assert "took it" in caplog.text


def test_short_ids_mean_one_run_each(folders):
    folders.add("ab12cd")
    folders.add("ab12ce")
    twin = folders.add("ab12cd", verb="evaluate")
    ids = short_ids(find_runs(folders.root), folders.root)
    assert ids[0] == twin
    assert ids[1] == "ab12ce"
    assert [named(spec, folders.root) for spec in ids] == [run.path.name for run in find_runs(folders.root)]


def test_a_recipe_that_cannot_be_read_has_no_noise(folders):
    run = folders.root / folders.add("ab12cd")
    for text in (b"", b"noise = 3", b"[noise]\nscale = 1", b"\xff", b"[[" * 1000, b"#" * 10**6):
        (run / "recipe.toml").write_bytes(text)
        assert noise_of_run(find_runs(folders.root)[0]) == ""
