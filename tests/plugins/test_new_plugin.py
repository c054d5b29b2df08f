"""``rushkit plugins new``: what it writes works as written, for every kind."""

import json
import tomllib

import pytest
from installed import components, install, run_tests, rushkit

from rushkit import registries
from rushkit.cli.app import main
from rushkit.errors import RushkitError, UsageError
from rushkit.plugin_template.skeleton import Kind, plan_plugin, write_plugin


@pytest.mark.parametrize("kind", Kind)
def test_every_file_is_filled_in_and_every_module_compiles(kind):
    files = plan_plugin("two-words", kind).files()
    assert {"pyproject.toml", "README.md", "rushkit_two_words/__init__.py"} < set(files)
    assert "tests/test_rushkit_two_words.py" in files
    for path, content in files.items():
        assert "${" not in content
        assert content.endswith("\n")
        if path.endswith(".py"):
            compile(content, path, "exec")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    (group,) = project["entry-points"]
    assert group in {registry.group for registry in registries.ALL}
    assert list(project["entry-points"][group]) == ["two-words"]
    assert "two-words" in files["README.md"]


def test_the_distributions_prefix_may_be_given_too(tmp_path):
    assert plan_plugin("rushkit-cauchy", Kind.NOISE) == plan_plugin("cauchy", Kind.NOISE)
    assert write_plugin(plan_plugin("cauchy", Kind.NOISE), tmp_path / "deep") == tmp_path / "deep" / "rushkit-cauchy"


@pytest.mark.parametrize(
    "name, near",
    [
        ("My_Noise", "my-noise"),
        ("my noise", "my-noise"),
        ("a--b", "a-b"),
        ("3d", "d"),
        ("../up", "up"),
        ("timm/x", "timm-x"),
        ("", "my-noise"),
        ("trailing-", "trailing"),
        ("naïve", "na-ve"),
        ("x\n", "x"),
    ],
)
def test_a_name_that_pip_or_python_would_not_take_is_refused_with_a_better_one(name, near):
    with pytest.raises(UsageError, match="is no name for a plugin") as raised:
        plan_plugin(name, Kind.NOISE)
    assert raised.value.hint == f"for example {near}"


@pytest.mark.parametrize(
    "name, kind", [("uniform", Kind.NOISE), ("pgd", Kind.ATTACK), ("digits", Kind.DATASET), ("cifar10", Kind.RECIPE)]
)
def test_a_name_that_is_taken_is_refused(name, kind):
    with pytest.raises(UsageError, match=rf"there is a .* '{name}' already, of rushkit"):
        plan_plugin(name, kind)


def test_a_name_of_another_kind_and_a_distribution_that_is_installed(monkeypatch):
    assert plan_plugin("digits", Kind.NOISE).distribution == "rushkit-digits"
    monkeypatch.setattr("rushkit.plugin_template.skeleton.metadata.distribution", lambda name: name)
    with pytest.raises(UsageError, match="rushkit-cauchy is installed already"):
        plan_plugin("cauchy", Kind.NOISE)


def test_nothing_is_overwritten(tmp_path):
    plugin = plan_plugin("cauchy", Kind.NOISE)
    (tmp_path / plugin.distribution).mkdir()
    with pytest.raises(UsageError, match="rushkit-cauchy exists already"):
        write_plugin(plugin, tmp_path)
    assert list((tmp_path / plugin.distribution).iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RushkitError):
        write_plugin(plugin, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path, capsys):
    assert main(["plugins", "new", "cauchy", "--kind", "noise", "--dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"pip install -e {tmp_path}/rushkit-cauchy" in said
    assert "--set noise.name=cauchy" in said
    assert main(["plugins", "new", "walk", "--kind", "attack", "--dir", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert all((tmp_path / "rushkit-walk" / path).is_file() for path in facts["files"])
    assert main(["plugins", "--check", "new", "other", "--kind", "noise", "--dir", str(tmp_path)]) == 2
    assert main(["plugins", "new", "other", "--kind", "nose", "--dir", str(tmp_path)]) == 2
    assert not (tmp_path / "rushkit-other").exists()


def test_the_command_installs_from_the_folder_even_without_its_e(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "wobble", "--kind", "noise"]) == 0
    assert "pip install -e ./rushkit-wobble\n" in capsys.readouterr().out


@pytest.mark.slow
def test_one_of_each_kind_installs_passes_its_tests_and_works_with_the_others(tmp_path):
    site, projects = tmp_path / "site", []
    for kind in Kind:
        plugin = plan_plugin(f"new-{kind}", kind)
        projects.append(write_plugin(plugin, tmp_path / "projects"))
    install(site, *projects)
    run_tests(*(project / "tests" for project in projects), site=site, cwd=tmp_path)
    found = components(site, tmp_path)
    for kind, project in zip(Kind, projects, strict=True):
        (row,) = (row for row in found.values() if row["name"] == f"new-{kind}")
        assert (row["owner"], row["problem"]) == (project.name, "")

    changes = ["data.name=new-dataset", "data.limit=40", "data.image_size=8", "backbone.name=new-backbone"]
    changes += [
        "noise.name=new-noise",
        "noise.scale=0.2",
        "backbone.width=4",
        "finetune.objective=new-objective",
        "finetune.epochs=1",
    ]
    changes += ["pretrain.epochs=1", "pretrain.batch_size=20", "pretrain.knn.every=0", "finetune.batch_size=20"]
    flags = [word for change in changes for word in ("--set", change)]
    rushkit("pretrain", "--recipe", "new-recipe", *flags, site=site, cwd=tmp_path)
    rushkit("finetune", "--from", "new-recipe", *flags, site=site, cwd=tmp_path)
    attack = ("attack", "--type", "new-attack", "--limit", "4", "--samples", "2", "--protocol", "strict", "--json")
    (row,) = json.loads(rushkit(*attack, site=site, cwd=tmp_path))["attacks"]
    assert row["attack"] == "new-attack"
