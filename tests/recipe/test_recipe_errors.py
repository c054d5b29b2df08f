from __future__ import annotations

import pytest

from rushkit.errors import UsageError
from rushkit.recipe.components import check_components
from rushkit.recipe.load import load_recipe

NONE: dict[str, str] = {}


def load(path: str, check: bool) -> None:
    recipe = load_recipe(path, environment=NONE)
    if check:
        check_components(recipe)


def message(tmp_path, text: str, check: bool = False) -> list[str]:
    """The lines of the error that a recipe brings, without the folder."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        load(str(path), check)
    assert raised.value.exit_code == 2
    return raised.value.message.replace(f"{tmp_path}/", "").splitlines()


def test_all_errors_come_at_once_each_with_its_line(tmp_path):
    text = """schema = 1
[data]
name = "digits"
limit = -1
[pretrain]
epochs = 2.5
[pretrain.optimizer]
lr = "fast"
momentun = 0.9
[noize]
scale = 0.3
[evaluate]
samples = [1, 0]
[[attack]]
eps = "8/0"
[[attack]]
norm = "l3"
"""
    assert message(tmp_path, text) == [
        "the recipe has 8 errors:",
        "  mine.toml:4: data.limit: must be greater than or equal to 0 (got -1)",
        "  mine.toml:6: pretrain.epochs: must be a valid integer (got 2.5)",
        "  mine.toml:8: pretrain.optimizer.lr: must be a valid number (got 'fast')",
        "  mine.toml:9: pretrain.optimizer.momentun: unknown key; did you mean momentum?",
        "  mine.toml:13: evaluate.samples.1: must be greater than or equal to 1 (got 0)",
        "  mine.toml:15: attack.0.eps: must be a number such as 0.03 or 8/255 (got '8/0')",
        "  mine.toml:17: attack.1.norm: must be 'linf', 'l2' or 'l1' (got 'l3')",
        "  mine.toml:10: noize: unknown key; did you mean noise?",
    ]


@pytest.mark.parametrize(
    "line, words",
    [
        ("schema = 2", "schema: must be 1 (got 2)"),
        ("data = 5", "data: must be a table (got 5)"),
        ("attack = 5", "attack: must be a valid list (got 5)"),
        ("attack = [5]", "attack.0: must be a table (got 5)"),
        ("evaluate.samples = []", "evaluate.samples: List must have at least 1 item"),
        ("evaluate.rules = ['vote']", "evaluate.rules.0: must be 'majority' or 'mean' (got 'vote')"),
        ("pretrain.batch_size = 1", "pretrain.batch_size: must be greater than or equal to 2 (got 1)"),
        ("pretrain.batch_size = true", "pretrain.batch_size: must be a valid integer (got True)"),
        ("pretrain.optimizer.lr = true", "pretrain.optimizer.lr: must be a valid number (got True)"),
        ("pretrain.optimizer.lr = 0", "pretrain.optimizer.lr: must be greater than 0 (got 0)"),
        ("pretrain.optimizer.nesterov = 1", "pretrain.optimizer.nesterov: must be a valid boolean (got 1)"),
        ("pretrain.views.scale = [0.1]", "pretrain.views.scale: List must have at least 2 items"),
        (
            "pretrain.optimizer = {nesterov = true, momentum = 0}",
            "pretrain.optimizer: nesterov needs a momentum above 0",
        ),
        ("finetune.freeze = 'all'", "finetune.freeze: must be 'encoder' or 'none' (got 'all')"),
        ("system.seed = -1", "system.seed: must be greater than or equal to 0 (got -1)"),
        ("name = 3", "name: must be a valid string (got 3)"),
        ("surprise = 1", "surprise: unknown key"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(tmp_path, line, words):
    data = "" if line.startswith("data") else '\n[data]\nname = "digits"\n'
    lines = message(tmp_path, f"{line}{data}")
    assert lines[0] == "the recipe has 1 error:"
    assert lines[1].startswith(f"  mine.toml:1: {words}")


def test_a_missing_key_is_named(tmp_path):
    assert message(tmp_path, "schema = 1\n")[1].endswith("data: is missing")
    assert message(tmp_path, "[data]\nlimit = 1\n")[1] == "  mine.toml:1: data.name: is missing"


def test_a_whole_number_may_stand_for_any_number(tmp_path):
    (tmp_path / "mine.toml").write_text('[data]\nname = "digits"\n[pretrain.optimizer]\nlr = 1\n')
    assert load_recipe(str(tmp_path / "mine.toml"), environment=NONE).pretrain.optimizer.lr == 1


def test_flags_and_environment_are_named_as_the_place(tmp_path):
    with pytest.raises(UsageError, match=r"--set pretrain.epochs: pretrain.epochs: must be a valid integer"):
        load_recipe("digits", ["pretrain.epochs=many"], NONE)
    with pytest.raises(UsageError, match=r"RUSHKIT_PRECISION: system.precision: must be 'auto'"):
        load_recipe("digits", environment={"RUSHKIT_PRECISION": "double"})


def test_component_errors_come_all_at_once_each_with_its_line(tmp_path):
    text = """schema = 1
[data]
name = "digit"
[backbone]
name = "resnet10-small"
stem = "small"
[noise]
name = "gaussian"
std = "wide"
[pretrain]
epoch = 5
temperature = true
[finetune]
objective = "rush"
[[attack]]
type = "pgd"
stepz = 3
[[attack]]
type = "pgdd"
"""
    lines = message(tmp_path, text, check=True)
    expected = [
        "mine.toml:3: data.name: unknown data set 'digit' (did you mean digits?)",
        "mine.toml:6: backbone.stem: unknown key of backbone resnet10-small",
        "mine.toml:9: noise.std: std must be a number (got 'wide')",
        "mine.toml:11: pretrain.epoch: unknown key; did you mean epochs?",
        "mine.toml:12: pretrain.temperature: temperature must be a number (got True)",
        "mine.toml:14: finetune.objective: 'rush' is an objective of pretrain, not of finetune",
        "mine.toml:17: attack.0.stepz: unknown key; did you mean steps?",
    ]
    assert lines[1:-1] == [f"  {line}" for line in expected]
    assert lines[-1].startswith("  mine.toml:19: attack.1.type: unknown attack 'pgdd' (did you mean pgd")


@pytest.mark.parametrize("key", ["seed=1", "samples_=2", "norm_='l2'"])
def test_options_that_rushkit_passes_itself_are_not_the_recipes(tmp_path, key):
    lines = message(tmp_path, f'attack = [{{type="pgd", {key}}}]\n[data]\nname = "digits"\n', check=True)
    assert "attack.0." in lines[1]
    assert "unknown key" in lines[1]


def test_a_noise_takes_one_of_scale_and_std(tmp_path):
    text = '[data]\nname = "digits"\n[noise]\nname = "gaussian"\nstd = 0.1\nscale = 0.2\n'
    (line,) = message(tmp_path, text, check=True)[1:]
    assert line.startswith("  mine.toml:5: noise: ")
    assert "scale" in line
    assert "std" in line


def test_a_table_that_sets_one_key_keeps_the_papers_others(tmp_path):
    (tmp_path / "mine.toml").write_text(
        '[data]\nname = "digits"\n[pretrain.optimizer]\nmomentum = 0.5\n[finetune.optimizer]\nlr = 1\n'
    )
    recipe = load_recipe(str(tmp_path / "mine.toml"), environment=NONE)
    assert (recipe.pretrain.optimizer.lr, recipe.pretrain.optimizer.weight_decay) == (0.5, 1e-4)
    assert (recipe.finetune.optimizer.momentum, recipe.finetune.optimizer.weight_decay) == (0.9, 2e-4)


def test_an_eps_in_grey_levels_is_asked_about():
    with pytest.raises(UsageError, match=r"did you mean 8/255\?"):
        load_recipe("cifar10", ["attack.0.eps=8"])
    assert load_recipe("cifar10", ["attack.0.norm=l2", "attack.0.eps=8"]).attack[0].eps == 8
