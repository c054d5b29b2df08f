"""``rushkit plugins show``: what a component is, its options with types and defaults, and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rushkit import registries
from rushkit.registry import BUILTIN_OWNER, Entry

NAMES = [
    (registry, entry.name)
    for registry in registries.ALL
    for entry in registry.entries()
    if entry.owner == BUILTIN_OWNER
]


@pytest.fixture
def shown(cli):
    """What ``plugins show ... --json`` tells."""

    def show(*words: str) -> dict:
        said = cli("plugins", "show", *words, "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)

    return show


def test_options_are_shown_with_type_default_and_meaning(shown):
    about = shown("rush")
    assert (about["kind"], about["owner"], about["source"]) == (
        "objective",
        "rushkit",
        "rushkit.objectives.nt_xent:Rush",
    )
    assert about["description"].startswith("The paper's pre-training objective")
    assert "Args" not in about["description"]
    noise_on = next(option for option in about["options"] if option["name"] == "noise_on")
    assert (noise_on["type"], noise_on["default"]) == ("one of 'second', 'both', 'none'", '"second"')
    assert noise_on["description"].startswith("Which views carry noise")
    assert "hidden" in about["supplied"]


def test_a_person_reads_the_same(cli):
    out = cli("plugins", "show", "pgd").out
    for words in (
        "attack pgd, of rushkit",
        "used as --type pgd",
        "rushkit passes norm, eps",
        "restarts",
        "a whole number",
    ):
        assert words in out
    assert "used as --set pretrain.objective=rush" in cli("plugins", "show", "rush").out


@pytest.mark.parametrize(("registry", "name"), NAMES, ids=lambda value: getattr(value, "kind", value))
def test_every_component_of_ours_says_what_it_is(shown, registry, name):
    about = shown(name, "--kind", registry.kind.replace(" ", ""))
    assert about["name"] == name
    assert about["description"]
    assert [option["name"] for option in about["options"] if not (option["type"] and option["description"])] == []


def test_a_family_names_its_members_and_a_member_its_own_options(shown):
    assert "torchattacks/fgsm" in shown("torchattacks/*")["members"]
    assert [option["name"] for option in shown("torchattacks/mifgsm")["options"]] == [
        option["name"] for option in shown("mifgsm")["options"]
    ]
    about = shown("timm/resnet18")
    assert (about["name"], [option["name"] for option in about["options"]]) == ("timm/resnet18", ["pretrained"])
    assert about["more"].startswith("Further options")


def test_a_component_of_a_file_names_the_file(shown):
    Path("mine.py").write_text(
        "import rushkit\n"
        "@rushkit.noises.register('mine')\n"
        "class Mine:\n"
        '    """A noise of mine."""\n'
        "    def __init__(self, scale: float, copies: int | None = None): ...\n"
    )
    about = shown("mine", "--import", "mine.py")
    assert (about["owner"], about["source"], about["description"]) == ("mine", "mine.py", "A noise of mine.")
    required, absent = about["options"]
    assert (required["type"], required["required"], required["default"]) == ("a number", True, "")
    assert (absent["type"], absent["required"], absent["default"]) == ("a whole number", False, "left out")


def test_a_name_of_several_kinds_asks_for_the_kind(shown, fails):
    Path("mine.py").write_text(
        'import rushkit\n@rushkit.noises.register(\'pgd\')\nclass Mine:\n    """A noise of mine."""\n'
    )
    said = fails(2, "plugins", "show", "pgd", "--import", "mine.py")
    assert "'pgd' names several components: noise, attack" in said.err
    assert "rushkit plugins show pgd --kind noise" in said.err
    assert shown("pgd", "--kind", "noise", "--import", "mine.py")["description"] == "A noise of mine."


def test_a_name_of_several_owners_asks_for_the_owner(shown, fails, monkeypatch):
    twice = [Entry("twice", f"rushkit-{owner}", "1.0", "rushkit.noises.none:NoNoise") for owner in ("one", "two")]
    monkeypatch.setattr(registries.noises, "_entries", [*registries.noises.entries(), *twice])
    assert "choose one of: rushkit-one/twice, rushkit-two/twice" in fails(2, "plugins", "show", "twice").err
    about = shown("rushkit-two/twice")
    assert (about["owner"], about["version"]) == ("rushkit-two", "1.0")


@pytest.mark.parametrize(
    ("name", "hint"), [("unifrom", "did you mean uniform"), ("qqqqq", "`rushkit plugins` lists the names")]
)
def test_an_unknown_name_is_told_what_is_near(fails, name, hint):
    said = fails(2, "plugins", "show", name)
    assert f"no component is called '{name}'" in said.err
    assert hint in said.err


def test_a_recipe_of_a_plugin_says_what_it_opens_with(shown, monkeypatch, folder):
    (folder / "theirs.toml").write_text("# Digits, as they train them.\n# Command: none\nextends = 'digits'\n")
    entry = Entry("theirs", "rushkit-theirs", "2.0", lambda: folder / "theirs.toml")
    monkeypatch.setattr(registries.recipes, "_entries", [entry])
    about = shown("theirs")
    assert (about["kind"], about["source"]) == ("recipe", str(folder / "theirs.toml"))
    assert about["description"] == "Digits, as they train them.\nCommand: none"
