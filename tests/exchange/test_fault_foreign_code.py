"""Nothing that stands in a checkpoint or a recipe is run as Python."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from tiny_runs import QUIET, checkpoint_of
from torchvision.models import get_model_weights

import rushkit
from rushkit import registries
from rushkit.errors import RushkitError, UsageError
from rushkit.exchange.export_timm import export_timm
from rushkit.exchange.part import load_part
from rushkit.models.network import build_backbone
from rushkit.recipe import toml
from rushkit.recipe.load import build_recipe, load_recipe
from rushkit.setup import components, networks
from rushkit.setup.start import start_run

RUNNERS = {"exec", "eval", "compile", "__import__"}


@pytest.fixture
def checkpoint(tmp_path):
    """``checkpoint({...})``: of a small MobileNet with random weights, with such options in its recipe."""

    def make(options):
        # Its constructor takes any option.
        changes = ["backbone.name=torchvision/mobilenet_v3_small", "data.image_size=16"]
        recipe = load_recipe("digits", [f"system.runs_dir={tmp_path / 'runs'}", *changes], {})
        network = networks.build_network(recipe, components.build_objective(recipe, recipe.finetune), (3, 16), 10)
        table = recipe.resolved()
        table["backbone"] |= options
        meta = {
            "stage": "finetune", "recipe": toml.dumps(table), "image_size": 16,
            "classes": [f"class {index}" for index in range(10)],
        }  # fmt: skip
        with start_run("finetune", recipe, QUIET) as run:
            run.save_checkpoint(1, network.tensors(), meta)
        return checkpoint_of(run)

    return make


def test_an_export_does_not_run_the_name_of_an_option(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "a=__import__('pathlib').Path('ran').touch(), b"
    with pytest.raises(RushkitError, match="must be a name"):
        export_timm(load_part(checkpoint({name: 1})), tmp_path / "model.safetensors")
    assert not Path("ran").exists()


@pytest.mark.parametrize("section", ["data", "backbone", "noise", "pretrain", "finetune", "attack"])
@pytest.mark.parametrize("name", ["a b", "a=1", "x, y", "class", "\uff57idth", "a-b", "1a", "a\n"])
def test_the_name_of_an_option_is_an_identifier(section, name):
    table = load_recipe("digits", (), {}).resolved()
    part = table[section][0] if section == "attack" else table[section]
    part[name] = 1
    with pytest.raises(UsageError, match="must be a name such as"):
        build_recipe(table)


def test_an_option_called_as_an_argument_of_the_registry_is_an_unknown_one():
    for name in ("name", "self"):
        with pytest.raises(UsageError, match=f"unknown option '{name}'"):
            registries.noises.create("gaussian", **{"std": 0.1, name: "x"})


def test_no_module_runs_text():
    calls = [
        f"{path.name}:{node.lineno}: {node.func.id}"
        for path in sorted(Path(rushkit.__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNNERS
    ]
    assert calls == []


def test_a_recipe_names_no_folder_that_weights_are_unpickled_from():
    with pytest.raises(UsageError, match="cache_dir cannot be set"):
        build_backbone("timm/resnet10t", {"cache_dir": "shared"}, 3, 32, seed=0)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_in_the_cache_of_pretrained_weights_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / Path(get_model_weights("resnet18").DEFAULT.url).name
    place.parent.mkdir(parents=True)
    torch.save({"conv1.weight": Payload(tmp_path / "ran")}, place)
    with pytest.raises(RushkitError, match="cannot be had"):
        build_backbone("torchvision/resnet18", {"pretrained": True}, 3, 32, seed=0)
    assert not (tmp_path / "ran").exists()
