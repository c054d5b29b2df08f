from __future__ import annotations

import itertools

import pytest

from rushkit.errors import UsageError
from rushkit.recipe.attack_flags import change_attacks
from rushkit.recipe.load import derive_recipe, load_recipe, transfer_recipe
from rushkit.recipe.overrides import parse_changes
from rushkit.recipe.problems import KEYS_HINT

NONE: dict[str, str] = {}


@pytest.mark.parametrize(
    "change, expected",
    [
        ("a.b=1", ("a.b", 1)),
        ("a=1.5", ("a", 1.5)),
        ("a=true", ("a", True)),
        ("a=True", ("a", "True")),
        ("a=cifar10", ("a", "cifar10")),
        ('a="1"', ("a", "1")),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a=[x]", ("a", "[x]")),
        ("a={b = 1}", ("a", {"b": 1})),
        ("a=b=c", ("a", "b=c")),
        ("a==", ("a", "=")),
        ("a=", ("a", "")),
        (" a.b = x y ", ("a.b", "x y")),
        ("a=8/255", ("a", "8/255")),
        ("a=2024-01-01", ("a", "2024-01-01")),
        ("a=1\nb=2", ("a", "1\nb=2")),
        ("a=C:\\data", ("a", "C:\\data")),
        ("a=" + "[" * 2000, ("a", "[" * 2000)),
        ("a=" + "1" * 5000, ("a", "1" * 5000)),
    ],
)
def test_a_change_is_split_at_the_first_equals_and_read_as_toml_or_else_a_text(change, expected):
    assert parse_changes([change]) == [expected]


@pytest.mark.parametrize("change", ["a.b", "", "=1", ".a=1", "a.=1", "a..b=1"])
def test_what_is_no_change_says_so(change):
    with pytest.raises(UsageError, match="is not KEY=VALUE") as raised:
        parse_changes([change])
    assert repr(change) in raised.value.message


def test_changes_reach_values_arrays_and_tables_of_arrays():
    changes = ["pretrain.epochs=3", "evaluate.samples.1=7", "attack.0.eps=1/255", "data={name='digits', limit=5}"]
    recipe = load_recipe("cifar10", changes, NONE)
    assert (recipe.pretrain.epochs, recipe.evaluate.samples, recipe.attack[0].eps) == (3, [1, 7], 1 / 255)
    assert (recipe.data.name, recipe.data.limit) == ("digits", 5)


def test_changes_may_be_a_mapping():
    assert load_recipe("cifar10", {"pretrain.epochs": 3}, NONE).pretrain.epochs == 3


def test_the_last_change_of_a_key_counts():
    assert load_recipe("cifar10", ["pretrain.epochs=3", "pretrain.epochs=4"], NONE).pretrain.epochs == 4


@pytest.mark.parametrize(
    "change, words",
    [
        ("pretrain.epochs.deep=1", "pretrain.epochs is a value, not a table"),
        ("evaluate.samples.0.deep=1", "evaluate.samples.0 is a value, not a table"),
        ("evaluate.samples.0.deep.er=1", "evaluate.samples.0 is a value, not a table"),
        ("evaluate.samples.9=1", "'9' must be an index below 2"),
        ("evaluate.samples.x=1", "'x' must be an index below 2"),
        ("evaluate.samples.-1=1", "'-1' must be an index below 2"),
        ("attack.1.eps=1", "'1' must be an index below 1"),
        ("attack.type=pgd", "'type' must be an index below 1"),
    ],
)
def test_a_change_without_a_place_names_what_is_in_the_way(change, words):
    with pytest.raises(UsageError) as raised:
        load_recipe("cifar10", [change], NONE)
    assert f"--set {change.partition('=')[0]}" in raised.value.message
    assert words in raised.value.message


@pytest.mark.parametrize(
    "change, hint",
    [
        ("attack.steps=3", "did you mean attack.0.steps?"),
        ("attack.options.steps=3", "did you mean attack.0.options.steps?"),
        ("attack.7.steps=3", KEYS_HINT),
        ("evaluate.samples.x=1", KEYS_HINT),
    ],
)
def test_a_key_of_a_table_in_an_array_wants_its_index(change, hint):
    with pytest.raises(UsageError) as raised:
        load_recipe("cifar10", [change], NONE)
    assert raised.value.hint == hint


def test_naming_another_component_drops_the_files_options_whichever_order():
    changes = ["noise.name=gaussian", "noise.std=0.1", "pretrain.objective=simclr", "attack.0.type=apgd"]
    for ordered in itertools.permutations(changes):
        recipe = load_recipe("cifar10", ordered, NONE)
        assert recipe.noise.options == {"std": 0.1}
        assert recipe.pretrain.options == {}
        assert (recipe.attack[0].type, recipe.attack[0].eps) == ("apgd", 8 / 255)


def test_naming_the_same_component_keeps_its_options():
    assert load_recipe("cifar10", ["noise.name=uniform"], NONE).noise.options == {"scale": 0.3}


def test_std_takes_the_place_of_scale():
    assert load_recipe("cifar10", ["noise.std=0.1"], NONE).noise.options == {"std": 0.1}
    assert load_recipe("cifar10", ["noise.std=0.1", "noise.scale=0.2"], NONE).noise.options == {"scale": 0.2}


def test_a_change_does_not_reach_the_next_load():
    load_recipe("cifar10", ["attack.0.eps=0.5", "pretrain.views.hue=0.4"], NONE)
    again = load_recipe("cifar10", environment=NONE)
    assert (again.attack[0].eps, again.pretrain.views.hue) == (8 / 255, 0.1)


def test_a_derived_recipe_inherits_the_seed_and_no_machine():
    source = load_recipe("digits", ["system.seed=5", "system.device=cuda", "system.chunk=3", "data.limit=4"], NONE)
    derived = derive_recipe(source, ["finetune.epochs=2"], {"RUSHKIT_RUNS": "there"})
    system = derived.system
    assert (system.seed, system.device, system.chunk, system.runs_dir) == (5, "auto", 0, "there")
    assert (derived.data.limit, derived.finetune.epochs, derived.name) == (4, 2, "digits")
    assert derived.origins["finetune.epochs"] == "--set finetune.epochs"
    assert "system.device" not in derived.origins
    assert source.finetune.epochs != 2


def test_a_derived_recipe_inherits_what_it_is_told_to():
    source = load_recipe("digits", ["system.data_dir=there", "system.chunk=3"], NONE)
    derived = derive_recipe(source, (), {"RUSHKIT_DATA": "env"}, system=("seed", "chunk", "data_dir"))
    assert (derived.system.chunk, derived.system.data_dir) == (3, "env")


def test_transfer_to_a_recipe_takes_its_data_and_fine_tuning_and_keeps_the_model():
    source = load_recipe("digits", ["noise.scale=0.2", "data.limit=9"], NONE)
    moved = transfer_recipe(source, "stl10", 16)
    assert moved.name == "digits+uniform-0.2-to-stl10"
    assert (moved.data.name, moved.data.image_size, moved.data.limit) == ("stl10", 16, 0)
    other = load_recipe("stl10", environment=NONE)
    assert (moved.finetune, moved.evaluate, moved.attack) == (other.finetune, other.evaluate, other.attack)
    assert moved.attack != source.attack
    assert (moved.backbone, moved.projector, moved.noise) == (source.backbone, source.projector, source.noise)


def test_transfer_to_a_data_set_takes_the_data_alone():
    source = load_recipe("digits", environment=NONE)
    moved = transfer_recipe(source, "folder", 16)
    assert moved.name == "digits-to-folder"
    assert moved.data.model_dump() == {"name": "folder", "limit": 0, "validation": 0, "image_size": 16}
    assert (moved.finetune, moved.attack) == (source.finetune, source.attack)


def test_transfer_to_the_path_of_a_recipe(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "cifar100"\n[finetune]\nepochs = 2\n')
    moved = transfer_recipe(load_recipe("digits", environment=NONE), str(tmp_path / "mine.toml"), 16)
    assert (moved.name, moved.data.name, moved.finetune.epochs) == ("digits-to-mine", "cifar100", 2)


def test_transfer_to_nothing_known_says_what_is_near():
    with pytest.raises(UsageError, match="'stl1' is neither a recipe nor a data set") as raised:
        transfer_recipe(load_recipe("digits", environment=NONE), "stl1", 16)
    assert raised.value.hint is not None
    assert "stl10" in raised.value.hint


TWO_ATTACKS = ["attack=[{type='pgd', eps=0.1, limit=5, steps=3}, {type='apgd', norm='l2', eps=0.5}]"]


def test_without_a_type_the_recipes_attacks_all_run_with_the_flags():
    recipe = load_recipe("digits", TWO_ATTACKS, NONE)
    changed = change_attacks(recipe, None, eps="4/255", samples=None, limit=7)
    assert [(a.type, a.eps, a.limit, a.norm) for a in changed.attack] == [
        ("pgd", 4 / 255, 7, "linf"),
        ("apgd", 4 / 255, 7, "l2"),
    ]
    assert changed.attack[0].options == {"steps": 3}
    assert changed.origins["attack.1.eps"] == "--eps"


def test_a_type_picks_the_recipes_table_of_that_type():
    (only,) = change_attacks(load_recipe("digits", TWO_ATTACKS, NONE), "apgd").attack
    assert (only.type, only.norm, only.eps) == ("apgd", "l2", 0.5)


def test_a_new_type_takes_norm_eps_and_limit_of_the_first_table_but_not_its_options():
    (only,) = change_attacks(load_recipe("digits", TWO_ATTACKS, NONE), "square").attack
    assert (only.type, only.norm, only.eps, only.limit, only.options) == ("square", "linf", 0.1, 5, {})


def test_a_type_without_any_table_to_start_from():
    (only,) = change_attacks(load_recipe("digits", ["attack=[]"], NONE), "pgd", eps="0.1").attack
    assert (only.type, only.eps) == ("pgd", 0.1)


def test_changes_apply_to_the_tables_that_are_kept():
    (only,) = change_attacks(load_recipe("digits", TWO_ATTACKS, NONE), "square", ["attack.0.queries=9"]).attack
    assert only.options == {"queries": 9}


def test_a_bad_flag_of_an_attack_is_named():
    with pytest.raises(UsageError, match=r"--eps: attack.0.eps: must be a number such as 0.03 or 8/255 \(got 'big'\)"):
        change_attacks(load_recipe("digits", environment=NONE), "pgd", eps="big")
    with pytest.raises(UsageError, match=r"--norm: attack.0.norm: must be 'linf', 'l2' or 'l1'"):
        change_attacks(load_recipe("digits", environment=NONE), None, norm="l3")


@pytest.mark.parametrize("text", ["961418", "1e5", "007", "true", "-3.5"])
def test_a_key_of_text_takes_what_looks_like_a_number(text):
    assert load_recipe("digits", [f"finetune.labels={text}"]).finetune.labels == text
