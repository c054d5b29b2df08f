from __future__ import annotations

import pytest

from rushkit import registries
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
        "  mine.toml:6: pretrain.epochs: must be a whole number (got 2.5)",
        "  mine.toml:8: pretrain.optimizer.lr: must be a number (got 'fast')",
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
        ("attack = 5", "attack: must be a list (got 5)"),
        ("attack = [5]", "attack.0: must be a table (got 5)"),
        ("evaluate.samples = []", "evaluate.samples: must not be empty (got [])"),
        ("evaluate.rules = ['vote']", "evaluate.rules.0: must be 'majority' or 'mean' (got 'vote')"),
        ("pretrain.batch_size = 1", "pretrain.batch_size: must be greater than or equal to 2 (got 1)"),
        ("pretrain.batch_size = true", "pretrain.batch_size: must be a whole number (got True)"),
        ("pretrain.optimizer.lr = true", "pretrain.optimizer.lr: must be a number (got True)"),
        ("pretrain.optimizer.lr = 0", "pretrain.optimizer.lr: must be greater than 0 (got 0)"),
        ("pretrain.optimizer.nesterov = 1", "pretrain.optimizer.nesterov: must be true or false (got 1)"),
        (
            "pretrain.views.scale = [0.9, 0.1]",
            "pretrain.views.scale: must be a lower and an upper bound, in this order",
        ),
        ("pretrain.views.scale = [0.5, 2]", "pretrain.views.scale.1: must be less than or equal to 1 (got 2)"),
        ("pretrain.views.ratio = [0, 1]", "pretrain.views.ratio.0: must be greater than 0 (got 0)"),
        ("pretrain.views.scale = [0.1]", "pretrain.views.scale: must have at least 2 items (got [0.1])"),
        (
            "pretrain.optimizer = {nesterov = true, momentum = 0}",
            "pretrain.optimizer: nesterov needs a momentum above 0",
        ),
        (
            "pretrain.optimizer = {name = 'lars', nesterov = true}",
            "pretrain.optimizer: nesterov is of sgd: lars has no such momentum",
        ),
        ("pretrain.optimizer.eta = 0", "pretrain.optimizer.eta: must be greater than 0 (got 0)"),
        ("finetune.freeze = 'half'", "finetune.freeze: must be 'encoder', 'all' or 'none' (got 'half')"),
        ("finetune.schedule.milestones = []", "finetune.schedule.milestones: must not be empty"),
        ("finetune.schedule.milestones = [0.5, 0.5]", "finetune.schedule.milestones: must rise from each to the next"),
        ("finetune.schedule.milestones = [1.0]", "finetune.schedule.milestones.0: must be less than 1 (got 1.0)"),
        ("finetune.schedule.milestones = [0]", "finetune.schedule.milestones.0: must be greater than 0 (got 0)"),
        (
            "finetune.schedule = {name = 'triangle', warmup_epochs = 1}",
            "finetune.schedule: a triangle rises by itself",
        ),
        ("finetune.average.decay = 1", "finetune.average.decay: must be less than 1 (got 1)"),
        (
            "finetune.validation = {eps = 8}",
            "finetune.validation.eps: must be in pixel units",
        ),
        (
            "finetune.validation.choose = 'robust'",
            "finetune.validation: choose = robust needs an attack",
        ),
        ("system.seed = -1", "system.seed: must be greater than or equal to 0 (got -1)"),
        ("name = 3", "name: must be a text (got 3)"),
        ("surprise = 1", "surprise: unknown key"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(tmp_path, line, words):
    data = "" if line.startswith("data") else '\n[data]\nname = "digits"\n'
    (said,) = message(tmp_path, f"{line}{data}")
    assert said.startswith(f"mine.toml:1: {words}")


def test_a_missing_key_is_named(tmp_path):
    assert message(tmp_path, "schema = 1\n") == ["mine.toml: data: is missing"]
    assert message(tmp_path, "[data]\nlimit = 1\n") == ["mine.toml:1: data.name: is missing"]


def test_a_whole_number_may_stand_for_any_number(tmp_path):
    (tmp_path / "mine.toml").write_text('[data]\nname = "digits"\n[pretrain.optimizer]\nlr = 1\n')
    assert load_recipe(str(tmp_path / "mine.toml"), environment=NONE).pretrain.optimizer.lr == 1


def test_flags_and_environment_are_named_as_the_place(tmp_path):
    with pytest.raises(UsageError, match=r"--set pretrain.epochs: must be a whole number"):
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
        "mine.toml:9: noise.std: must be a number (got 'wide')",
        "mine.toml:11: pretrain.epoch: unknown key; did you mean epochs?",
        "mine.toml:12: pretrain.temperature: must be a number (got True)",
        "mine.toml:14: finetune.objective: 'rush' is an objective of pretrain, not of finetune",
        "mine.toml:17: attack.0.stepz: unknown key; did you mean steps?",
    ]
    assert lines[1:-1] == [f"  {line}" for line in expected]
    assert lines[-1].startswith("  mine.toml:19: attack.1.type: unknown attack 'pgdd' (did you mean pgd")


@pytest.mark.parametrize("key", ["seed=1", "samples_=2", "norm_='l2'"])
def test_options_that_rushkit_passes_itself_are_not_the_recipes(tmp_path, key):
    (said,) = message(tmp_path, f'attack = [{{type="pgd", {key}}}]\n[data]\nname = "digits"\n', check=True)
    assert "attack.0." in said
    assert "unknown key" in said


def test_a_noise_takes_one_of_scale_and_std(tmp_path):
    text = '[data]\nname = "digits"\n[noise]\nname = "gaussian"\nstd = 0.1\nscale = 0.2\n'
    assert message(tmp_path, text, check=True) == [
        "mine.toml:5: noise 'gaussian' takes exactly one of scale and std (got both)"
    ]


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


def test_errors_of_sections_and_of_components_come_in_one_round(tmp_path):
    text = """[data]
name = "digits"
[noise]
name = "gaussian"
sclae = 0.1
[pretrain]
epochs = 0
temperature = "hot"
[[attack]]
norm = "l3"
stepz = 3
"""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        load_recipe(str(path), environment=NONE)
    assert raised.value.message.replace(f"{tmp_path}/", "").splitlines() == [
        "the recipe has 5 errors:",
        "  mine.toml:7: pretrain.epochs: must be greater than or equal to 1 (got 0)",
        "  mine.toml:10: attack.0.norm: must be 'linf', 'l2' or 'l1' (got 'l3')",
        "  mine.toml:5: noise.sclae: unknown key; did you mean scale?",
        "  mine.toml:8: pretrain.temperature: must be a number (got 'hot')",
        "  mine.toml:11: attack.0.stepz: unknown key; did you mean steps?",
    ]


@pytest.mark.parametrize("table", ["data = 5", "data = {name = 5}", "attack = [5]", "noise = {name = []}"])
def test_components_of_a_malformed_table_are_no_second_error(tmp_path, table):
    path = tmp_path / "mine.toml"
    path.write_text(table if "data" in table else f'{table}\ndata = {{name = "digits"}}\n', encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        load_recipe(str(path), environment=NONE)
    assert len(raised.value.message.splitlines()) == 1


def test_what_another_component_took_away_is_said(tmp_path):
    with pytest.raises(UsageError) as raised:
        load_recipe("cifar10", ["noise.name=gaussian"], NONE)
    assert raised.value.message == (
        "--set noise.name (which takes away scale = 0.3 of uniform): noise 'gaussian' takes exactly one of scale and "
        "std (got neither): say --set noise.std=... or --set noise.scale=..."
    )
    (tmp_path / "mine.toml").write_text('extends = "cifar10"\n[noise]\nname = "laplace"\n', encoding="utf-8")
    recipe = load_recipe(str(tmp_path / "mine.toml"), environment=NONE, components=False)
    assert recipe.origins["noise.name"].endswith("mine.toml:3 (which takes away scale = 0.3 of uniform)")
    assert load_recipe("cifar10", ["noise.name=uniform"], NONE).origins["noise.name"] == "--set noise.name"


def test_an_option_that_a_component_lacks_is_said_of_what_named_it():
    def mixed(share: float) -> None:
        raise AssertionError(share)

    registries.noises.register("mixed")(mixed)
    try:
        with pytest.raises(UsageError) as caught:
            load_recipe("digits", ["noise.name=mixed"], NONE)
    finally:
        registries.noises.unregister("mixed", __name__.partition(".")[0])
    # The noise table of the recipe's file, where options would stand, is right.
    assert caught.value.message == (
        "--set noise.name (which takes away scale = 0.3 of uniform): noise.name: noise 'mixed' needs the option "
        "'share': --set noise.share=..."
    )


def test_the_mark_that_some_editors_put_first_is_no_part_of_a_recipe(tmp_path):
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbfextends = 'digits'\r\n[data]\r\nlimit = 7\r\n")
    assert load_recipe(str(tmp_path / "marked.toml"), environment=NONE).data.limit == 7


@pytest.mark.parametrize("key", ["system.runs_dir", "system.data_dir"])
def test_a_folder_has_a_name(key):
    with pytest.raises(UsageError, match=rf"{key}: must"):
        load_recipe("digits", [f"{key}="], environment=NONE)


def test_what_a_component_refuses_is_placed_at_the_option_that_it_names():
    with pytest.raises(UsageError) as caught:
        load_recipe("smoothadv-digits", ["finetune.draws=0"])
    assert caught.value.message.startswith("--set finetune.draws: draws must be at least 1")


def test_a_value_that_is_not_finite_is_one_error():
    with pytest.raises(UsageError) as caught:
        load_recipe("trades-digits", ["finetune.beta=nan"])
    assert caught.value.message == "--set finetune.beta: must be finite (got nan)"
