"""A recipe's data.path is looked for below the root, then beside the file that says it."""

from __future__ import annotations

import pytest

from rushkit.recipe.load import load_recipe


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a recipe in another one, and images beside that."""
    (tmp_path / "work").mkdir()
    (tmp_path / "sent" / "pets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("RUSHKIT_DATA", raising=False)
    return tmp_path


def path_of(folder, text='name = "folder"\npath = "pets"\n', changes=(), above=""):
    recipe = folder / "sent" / "mine.toml"
    recipe.write_text(f'schema = 1\nextends = "digits"\n{above}[data]\n{text}')
    return load_recipe(str(recipe), changes, components=False).data.options.get("path")


def test_what_lies_beside_the_recipe_is_found(folder):
    assert path_of(folder) == str(folder / "sent" / "pets")


def test_what_lies_below_the_root_comes_first(folder):
    (folder / "work" / "data" / "pets").mkdir(parents=True)
    assert path_of(folder) == "pets"


def test_the_root_is_that_of_the_flag(folder):
    (folder / "other" / "pets").mkdir(parents=True)
    assert path_of(folder, changes=[f"system.data_dir={folder / 'other'}"]) == "pets"


def test_the_recipe_that_says_the_path_counts_not_the_one_that_extends_it(folder):
    path_of(folder)
    (folder / "work" / "longer.toml").write_text('schema = 1\nextends = "../sent/mine.toml"\n')
    assert load_recipe("longer.toml", components=False).data.options["path"] == str(folder / "work/../sent/pets")


@pytest.mark.parametrize(
    "text, changes, expected",
    [
        ('name = "folder"\npath = "none"\n', (), "none"),
        ('name = "folder"\npath = "/nowhere/pets"\n', (), "/nowhere/pets"),
        ('name = "folder"\n', ("data.path=pets",), "pets"),
        ('name = "stripes-of-a-plugin"\npath = "pets"\n', (), "pets"),
        ('name = "folder"\n', (), None),
    ],
    ids=["nowhere", "absolute", "a flag", "a plugin's", "no path"],
)
def test_any_other_path_stays_as_it_is(folder, text, changes, expected):
    assert path_of(folder, text, changes) == expected
