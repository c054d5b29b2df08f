"""``~`` is the home folder in every path that a user gives: flags, recipe keys, the environment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from commands import TINY, only, sets

from rushkit import data
from rushkit.cli.complete import complete_runs
from rushkit.cli.home import with_home
from rushkit.cli.imports import take_imports
from rushkit.recipe.load import default_runs_dir, load_recipe

FEW = ("--limit", "4", "-q")


@pytest.fixture
def home(folder, monkeypatch) -> Path:
    place = folder / "home of mine"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    return place


def test_a_word_of_the_command_line(home):
    assert with_home("~") == str(home)
    assert with_home("~/a b") == f"{home}/a b"
    assert with_home("--out=~/page") == f"--out={home}/page"
    assert with_home("system.runs_dir=~/runs") == f"system.runs_dir={home}/runs"
    assert with_home("--set=data.path=~/photos") == f"--set=data.path={home}/photos"
    for word in ("a~b", "noise.name=gaussian", "--name=a~", "x~/y", "=~/y", "~nobody-of-this-name/x", "it is ~/x"):
        assert with_home(word) == word


def test_runs_are_made_and_found_below_home_by_flag_recipe_and_environment(cli, home, monkeypatch):
    for change in ("system.runs_dir=~/by flag", 'system.runs_dir="~/as text"'):
        assert cli("pretrain", "--recipe", "digits", "-q", *sets(*TINY), "--set", change).code == 0
    Path("mine.toml").write_text('extends = "digits"\n[system]\nruns_dir = "~/by recipe"\n')
    assert cli("pretrain", "--recipe", "mine.toml", "-q", *sets(*TINY)).code == 0
    monkeypatch.setenv("RUSHKIT_RUNS", "~/by environment")
    assert cli("pretrain", "--recipe", "digits", "-q", *sets(*TINY)).code == 0
    for name in ("by flag", "as text", "by recipe", "by environment"):
        assert only(home / name, "pretrain").is_dir()
    assert only(home / "by environment", "pretrain").name[-6:] in cli("runs", "list").out
    assert only(home / "by flag", "pretrain").name[-6:] in cli("runs", "list", "--runs-dir", "~/by flag").out
    assert complete_runs("")
    assert not Path("~").exists()


def test_a_file_to_import(home, monkeypatch):
    monkeypatch.setenv("RUSHKIT_IMPORT", os.pathsep.join(("~/a.py", "/b.py")))
    assert take_imports(["runs", "list"])[1] == [f"{home}/a.py", "/b.py"]


def test_a_recipe_extends_one_below_home(home):
    (home / "base.toml").write_text('extends = "digits"\n[pretrain]\nepochs = 7\n')
    Path("mine.toml").write_text('extends = "~/base.toml"\n')
    assert load_recipe("mine.toml").pretrain.epochs == 7


def test_a_data_folder_below_home(cli, home, monkeypatch):
    monkeypatch.setenv("RUSHKIT_DATA", "~/data")
    assert data.default_root() == f"{home}/data"
    assert json.loads(cli("data", "list", "--json").out)["data_dir"] == f"{home}/data"
    assert json.loads(cli("data", "list", "--data-dir=~/other", "--json").out)["data_dir"] == f"{home}/other"
    assert load_recipe("digits").system.data_dir == f"{home}/data"
    assert f"{home}/data" in cli("doctor").out.replace("\n", "")


def test_files_that_are_written_and_read(cli, home, runs):
    assert cli("recipe", "copy", "digits", "~/mine.toml").code == 0
    assert (home / "mine.toml").is_file()
    assert cli("recipe", "check", "~/mine.toml").code == 0
    assert cli("report", "--out=~/page", "--no-images", "-q").code == 0
    assert (home / "page" / "report.html").is_file()
    only(runs, "pretrain").rename(home / "the run")
    assert cli("finetune", "--from", "~/the run", "-q").code == 0
    assert not Path("~").exists()


def test_the_default_folder_of_runs_is_expanded(home, monkeypatch):
    monkeypatch.setenv("RUSHKIT_RUNS", "~")
    assert default_runs_dir() == str(home)
