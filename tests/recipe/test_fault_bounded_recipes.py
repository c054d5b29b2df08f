"""Recipes of anybody's: the work and the words that they cost are bounded."""

from __future__ import annotations

import tomllib
from contextlib import nullcontext

import pytest

from rushkit.errors import UsageError
from rushkit.recipe.load import load_recipe, read_recipe

NONE: dict[str, str] = {}
DATA = '[data]\nname = "digits"\n'


@pytest.mark.parametrize(
    "statement",
    [
        "samples = [\n" + "1,\n" * 2000 + "]",
        'extra = """\n' + "a line\n" * 2000 + '"""',
        "extra = '''\n" + "a [line\n" * 2000 + "'''",
    ],
    ids=["a list", "a text", "a literal text"],
)
def test_a_statement_of_many_lines_is_parsed_a_few_times_and_not_once_a_line(tmp_path, monkeypatch, statement):
    path = tmp_path / "long.toml"
    path.write_text(f"{DATA}[evaluate]\n{statement}\n")
    parsed, original = [], tomllib.loads

    def counted(text, **options):
        parsed.append(len(text))
        assert sum(parsed) < 10 * path.stat().st_size
        return original(text, **options)

    monkeypatch.setattr(tomllib, "loads", counted)
    # "extra" is no key of the section.
    unknown = pytest.raises(UsageError, match=r"long.toml:4: evaluate.extra: unknown key")
    with unknown if "extra" in statement else nullcontext():
        load_recipe(str(path), environment=NONE)
    assert parsed


@pytest.mark.parametrize(
    "text",
    [
        "data" + ".a" * 3000 + " = 1\n",
        '"data"' + '."a"' * 3000 + " = 1\n",
        "[data" + " . a" * 3000 + "]\n",
        "data = " + "{a = " * 50 + "1" + "}" * 50 + "\n",
        "data = " + "[" * 90 + "]" * 90 + "\n",
    ],
    ids=["dotted", "quoted", "header", "tables", "lists"],
)
@pytest.mark.parametrize("how", ["file", "text"])
def test_what_is_nested_too_deep_is_refused(tmp_path, text, how):
    path = tmp_path / "deep.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match="nested deeper than 16 levels"):
        load_recipe(str(path), environment=NONE) if how == "file" else read_recipe(text, "a checkpoint")


def test_a_changed_key_of_thousands_of_parts_is_refused():
    with pytest.raises(UsageError, match="goes deeper than any key"):
        load_recipe("digits", [f"backbone{'.a' * 3000}=1"], environment=NONE)


def test_a_recipe_of_megabytes_is_not_read(tmp_path):
    path = tmp_path / "long.toml"
    path.write_text(DATA + "# nothing\n" * 200_000)
    with pytest.raises(UsageError, match="longer than 65536 characters"):
        load_recipe(str(path), environment=NONE)


@pytest.mark.parametrize(
    "value", ["0x" + "f" * 20_000, "0b" + "1" * 64, str(2**63), "-9223372036854775809", "9" * 6000]
)
def test_an_integer_beyond_64_bits_is_refused(tmp_path, value):
    path = tmp_path / "wide.toml"
    path.write_text(f"{DATA}[system]\nseed = {value}\n")
    with pytest.raises(UsageError, match="an integer beyond 64 bits"):
        load_recipe(str(path), environment=NONE)


@pytest.mark.parametrize(
    "text",
    [
        DATA + f'[pretrain]\nepochs = "{"x" * 60_000}"\n',
        DATA + f"[pretrain]\nepochs = [{'1, ' * 20_000}]\n",
        DATA + f"[pretrain]\n{'k' * 60_000} = 1\n",
        DATA + "[evaluate]\n" + "".join(f"k{index} = 1\n" for index in range(5000)),
        f'[data]\nname = "{"x" * 60_000}"\n[noise]\nname = "{"y" * 1000}"\n',
        f'extends = "{"x" * 60_000}"\n',
        f"extends = [{'1, ' * 20_000}]\n",
        DATA + f'[noise]\nname = "gaussian"\nstd = "{"9" * 60_000}"\n',
    ],
    ids=["text", "list", "key", "keys", "names", "parent", "parents", "option"],
)
def test_a_message_is_no_longer_than_a_few_screens(tmp_path, text):
    path = tmp_path / "wordy.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as raised:
        load_recipe(str(path), environment=NONE)
    assert len(str(raised.value)) < 17_000


def test_of_thousands_of_errors_the_first_are_listed_and_all_counted(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(DATA + "[evaluate]\n" + "".join(f"k{index} = 1\n" for index in range(5000)))
    with pytest.raises(UsageError) as raised:
        load_recipe(str(path), environment=NONE)
    lines = raised.value.message.splitlines()
    assert lines[0] == "the recipe has 5000 errors:"
    assert lines[1] == f"  {path}:4: evaluate.k0: unknown key"
    assert lines[-1] == "  and 4980 more"
    assert len(lines) == 22


def test_a_long_chain_of_recipes_is_refused(tmp_path):
    for index in range(500):
        (tmp_path / f"r{index}.toml").write_text(f'extends = "r{index + 1}.toml"\n')
    (tmp_path / "r500.toml").write_text(DATA)
    with pytest.raises(UsageError, match="at most 16 recipes make one"):
        load_recipe(str(tmp_path / "r0.toml"), environment=NONE)
