from __future__ import annotations

import math
from pathlib import Path

import pytest

from rushkit import registries
from rushkit.errors import PluginError, UsageError
from rushkit.recipe.find import available, find_recipe, shipped_folder
from rushkit.recipe.load import load_recipe, read_recipe
from rushkit.registry import Entry

NONE: dict[str, str] = {}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with an empty recipes/."""
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text(f"schema = 1\n{text}", encoding="utf-8")
    return str(path)


def test_a_recipe_is_found_by_path_here_and_among_the_shipped_ones(here):
    path = write(here, "mine", '[data]\nname = "digits"\n')
    assert load_recipe(path, environment=NONE).name == "mine"
    assert find_recipe("cifar10") == shipped_folder() / "cifar10.toml"
    write(here / "recipes", "cifar10", '[data]\nname = "digits"\n')
    assert load_recipe("cifar10", environment=NONE).data.name == "digits"
    assert load_recipe("rushkit/cifar10", environment=NONE).data.name == "cifar10"
    assert available()["cifar10"] == str(Path("recipes/cifar10.toml"))
    assert available()["digits"] == "rushkit"


def test_the_papers_settings_are_the_defaults(here):
    bare = load_recipe(write(here, "bare", '[data]\nname = "cifar10"\n'), environment=NONE)
    paper = load_recipe("cifar10", environment=NONE)
    for section in ("projector", "noise", "evaluate", "attack", "finetune"):
        assert bare.resolved()[section] == paper.resolved()[section]
    assert bare.pretrain.model_copy(update={"temperature": 0.5}) == paper.pretrain
    assert paper.pretrain.options == {"temperature": 0.5}
    assert paper.attack[0].eps == 8 / 255


def test_tables_merge_and_arrays_replace(here):
    write(
        here,
        "base",
        '[data]\nname = "digits"\nlimit = 5\n[pretrain.views]\nflip = 0.1\nhue = 0.2\n[evaluate]\nsamples = [1, 2, 3]\n'
        '[[attack]]\ntype = "pgd"\neps = 0.1\n[[attack]]\ntype = "apgd"\n',
    )
    path = write(
        here,
        "child",
        'extends = "base"\n[data]\nlimit = 7\n[pretrain.views]\nhue = 0.3\n[evaluate]\nsamples = [4]\n'
        "[[attack]]\nsamples = [9]\n",
    )
    recipe = load_recipe(path, environment=NONE)
    assert (recipe.name, recipe.data.name, recipe.data.limit) == ("child", "digits", 7)
    assert (recipe.pretrain.views.flip, recipe.pretrain.views.hue) == (0.1, 0.3)
    assert recipe.evaluate.samples == [4]
    assert [(attack.type, attack.eps, attack.samples) for attack in recipe.attack] == [("pgd", 8 / 255, [9])]


def test_a_sibling_is_extended_before_a_shipped_recipe(here):
    write(here, "cifar10", '[data]\nname = "digits"\n')
    path = write(here, "child", 'extends = "cifar10"\n')
    assert load_recipe(path, environment=NONE).data.name == "digits"


def test_a_local_recipe_may_extend_the_shipped_one_of_its_name(here):
    write(here / "recipes", "cifar10", 'extends = "rushkit/cifar10"\n[data]\nlimit = 3\n')
    recipe = load_recipe("cifar10", environment=NONE)
    assert (recipe.name, recipe.data.name, recipe.data.limit) == ("cifar10", "cifar10", 3)


def test_a_name_is_not_inherited(here):
    write(here, "base", 'name = "special"\n[data]\nname = "digits"\n')
    assert load_recipe(str(here / "base.toml"), environment=NONE).name == "special"
    assert load_recipe(write(here, "child", 'extends = "base"\n'), environment=NONE).name == "child"


def test_another_component_drops_the_options_of_the_one_before(here):
    path = write(
        here,
        "child",
        'extends = "cifar10"\n[backbone]\nname = "resnet10-small"\n[noise]\nname = "gaussian"\nstd = 0.1\n',
    )
    recipe = load_recipe(path, environment=NONE)
    assert recipe.backbone.options == {}
    assert recipe.noise.options == {"std": 0.1}


def test_keys_of_the_section_itself_survive_another_component(here):
    path = write(here, "child", 'extends = "digits"\n[data]\nname = "cifar10"\n[pretrain]\nobjective = "simclr"\n')
    recipe = load_recipe(path, environment=NONE)
    assert recipe.data.image_size == 16
    assert recipe.pretrain.epochs == load_recipe("digits", environment=NONE).pretrain.epochs
    assert recipe.pretrain.options == {}


def test_the_same_component_keeps_its_options(here):
    path = write(here, "child", 'extends = "cifar10"\n[noise]\nname = "uniform"\n[pretrain]\nepochs = 3\n')
    recipe = load_recipe(path, environment=NONE)
    assert recipe.noise.options == {"scale": 0.3}
    assert recipe.pretrain.options == {"temperature": 0.5}


def test_of_scale_and_std_the_later_one_counts(here):
    path = write(here, "child", 'extends = "cifar10"\n[noise]\nstd = 0.1\n')
    assert load_recipe(path, environment=NONE).noise.options == {"std": 0.1}
    assert load_recipe(path, ["noise.scale=0.2"], NONE).noise.options == {"scale": 0.2}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_circle_of_extends_is_an_error(here, count):
    for i in range(count):
        write(here, f"r{i}", f'extends = "r{(i + 1) % count}"\n[data]\nname = "digits"\n')
    with pytest.raises(UsageError, match=r"circle: r0.toml") as raised:
        load_recipe(str(here / "r0.toml"), environment=NONE)
    assert raised.value.message.endswith("-> r0.toml")


@pytest.mark.parametrize("value", ["3", '["cifar10"]', "{}"])
def test_extends_names_one_recipe(here, value):
    path = write(here, "child", f"extends = {value}\n")
    with pytest.raises(UsageError, match=r"child.toml:2: extends: must be the name of one recipe"):
        load_recipe(path, environment=NONE)


@pytest.mark.parametrize("name", ["cifar11", "qqqqqqqq", "", "x" * 5000, "a/b", "\0", "cifar10.tmol"])
def test_an_unknown_recipe_says_what_there_is(here, name):
    with pytest.raises(UsageError, match="unknown recipe") as raised:
        load_recipe(name, environment=NONE)
    assert raised.value.hint is not None
    assert "cifar10" in raised.value.hint


@pytest.mark.parametrize("path", ["no/such.toml", "x" * 5000 + ".toml", "recipes.toml"])
def test_an_unknown_file_is_named(here, path):
    (here / "recipes.toml").mkdir()
    with pytest.raises(UsageError, match="there is no recipe file"):
        load_recipe(path, environment=NONE)


@pytest.mark.parametrize(
    "content", [b"a = \n", b"\xff\xfe", b"a = 1\na = 2\n", b"x = " + b"[" * 3000, b"x = " + b"1" * 5000]
)
def test_what_is_no_toml_is_named(here, content):
    (here / "bad.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"bad.toml"):
        load_recipe("bad.toml", environment=NONE)


def test_flags_go_over_environment_over_file_over_default(here):
    path = write(here, "mine", '[data]\nname = "digits"\n[system]\ndata_dir = "file"\ndevice = "file"\n')
    environment = {"RUSHKIT_DATA": "environment", "RUSHKIT_RUNS": "environment", "RUSHKIT_DEVICE": ""}
    recipe = load_recipe(path, ["system.data_dir=flag"], environment)
    assert (recipe.system.data_dir, recipe.system.runs_dir) == ("flag", "environment")
    assert (recipe.system.device, recipe.system.precision) == ("file", "auto")
    assert recipe.origins["system.data_dir"] == "--set system.data_dir"
    assert recipe.origins["system.runs_dir"] == "RUSHKIT_RUNS"
    assert recipe.origins["system.device"] == f"{path}:6"
    assert "system.precision" not in recipe.origins


def test_the_environment_is_read_where_none_is_given(here, monkeypatch):
    monkeypatch.setenv("RUSHKIT_RUNS", "elsewhere")
    assert load_recipe("digits").system.runs_dir == "elsewhere"


def test_origins_name_file_and_line_through_extends(here):
    base = write(here, "base", '[data]\nname = "digits"\nlimit = 5\n[[attack]]\neps = 0.1\n[[attack]]\neps = 0.2\n')
    child = write(here, "child", 'extends = "base"\n[data]\nlimit = 7\n[[attack]]\neps = 0.3\n')
    recipe = load_recipe(child, ["evaluate={samples=[2], rules=['mean']}"], NONE)
    origins = recipe.origins
    assert origins["data.name"] == f"{base}:3"
    assert origins["data.limit"] == f"{child}:4"
    assert origins["attack.0.eps"] == f"{child}:6"
    assert "attack.1.eps" not in origins
    assert origins["evaluate.samples"] == "--set evaluate"


def test_a_dropped_option_leaves_no_origin(here):
    path = write(here, "mine", '[data]\nname = "digits"\n[noise]\nname = "gaussian"\nscale = 0.5\n')
    recipe = load_recipe(path, ["noise.name=uniform"], NONE)
    assert recipe.noise.options == {"scale": 0.3}
    assert "noise.scale" not in recipe.origins


@pytest.fixture
def plugin_recipes(monkeypatch) -> dict[str, object]:
    """Recipes of an installed plugin: name -> target; filled by the test."""
    targets: dict[str, object] = {}
    registry = registries.recipes
    registry.names()
    monkeypatch.setattr(
        type(registry),
        "entries",
        lambda self: [Entry(name, "rushkit-more", "1.0", target) for name, target in sorted(targets.items())],
    )
    return targets


def test_a_plugin_brings_recipes_as_a_path_or_a_function(here, plugin_recipes):
    path = write(here, "elsewhere", 'extends = "digits"\n[data]\nlimit = 9\n')
    plugin_recipes["more"] = Path(path)
    plugin_recipes["made"] = lambda: Path(path)
    for name in ("more", "rushkit-more/more", "made"):
        recipe = load_recipe(name, environment=NONE, components=False)
        assert (recipe.name, recipe.data.limit) == (name.rpartition("/")[2], 9)
    assert available()["more"] == "rushkit-more"


def test_a_plugin_recipe_never_hides_a_shipped_one_or_hides_behind_it(here, plugin_recipes):
    plugin_recipes["digits"] = Path(write(here, "elsewhere", '[data]\nname = "cifar10"\n'))
    with pytest.raises(UsageError, match="more than one owner") as raised:
        load_recipe("digits", environment=NONE)
    assert raised.value.hint == "choose one of: rushkit/digits, rushkit-more/digits"
    assert load_recipe("rushkit-more/digits", environment=NONE, components=False).data.name == "cifar10"
    assert load_recipe("rushkit/digits", environment=NONE, components=False).data.name == "digits"
    assert load_recipe("cifar10-cpu", environment=NONE, components=False).data.name == "cifar10"


def raises() -> Path:
    raise SystemExit(0)


@pytest.mark.parametrize("target", ["/no/such/file.toml", 3, None, raises, "tests_no_such_module:x"])
def test_a_broken_plugin_recipe_is_the_plugins_fault(here, plugin_recipes, target):
    plugin_recipes["more"] = target
    with pytest.raises(PluginError, match="'more' of rushkit-more") as raised:
        load_recipe("more", environment=NONE)
    assert raised.value.exit_code == 3


def test_reading_back_keeps_every_value_and_says_the_line(here):
    recipe = read_recipe('schema = 1\nname = "x"\n[data]\nname = "digits"\n', "stored")
    assert recipe.origins["data.name"] == "stored:4"
    with pytest.raises(UsageError, match="data: is missing"):
        read_recipe('schema = 1\nname = "x"\n', "stored")


def test_infinities_and_dates_are_no_values_of_a_recipe(here):
    text = '[data]\nname = "digits"\na = nan\nb = [inf]\nc = {d = 2024-01-01}\n[pretrain.schedule]\nmin_lr = inf\n'
    with pytest.raises(UsageError) as raised:
        load_recipe(write(here, "mine", text), environment=NONE)
    for key, line in {"data.a": 4, "data.b": 5, "data.c": 6, "pretrain.schedule.min_lr": 8}.items():
        assert f"mine.toml:{line}: {key}: must be" in raised.value.message
    assert math.isfinite(load_recipe("digits", environment=NONE).pretrain.schedule.min_lr)
