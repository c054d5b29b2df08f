"""Opening a checkpoint asks no hub for weights, and ``RUSHKIT_OFFLINE`` keeps training from asking as well."""

from __future__ import annotations

import socket

import pytest
import torch
from tiny_runs import QUIET, TINY, checkpoint_of, toy
from torch import nn

import rushkit
from rushkit import registries
from rushkit.errors import RushkitError
from rushkit.evaluation.probe import encoders_of
from rushkit.exchange.export_timm import export_timm
from rushkit.exchange.part import load_part
from rushkit.models.network import build_backbone
from rushkit.recipe import toml
from rushkit.recipe.load import load_recipe
from rushkit.run.folder import Run
from rushkit.setup import components, networks
from rushkit.setup.model import load_classifier, load_encoder
from rushkit.setup.start import machine_of, start_run
from rushkit.training.finetune import finetune, finetuning_job
from rushkit.training.pretrain import pretrain, pretraining_job


@pytest.fixture
def asked():
    """How often a backbone was asked for its pretrained weights; ``toy-with-weights`` is one that tells."""
    times: list[str] = []

    def with_weights(in_channels: int = 3, image_size: int = 32, pretrained: bool = False) -> nn.Module:
        if pretrained:
            times.append("asked")
        return toy(in_channels, image_size)

    registries.backbones.register("toy-with-weights")(with_weights)
    yield times
    registries.backbones.unregister("toy-with-weights", with_weights.__module__.partition(".")[0])


@pytest.fixture
def connections(monkeypatch):
    """Addresses that something looked up or connected to; nobody gets through."""
    addresses: list[object] = []

    def refuse(*arguments, **keywords):
        addresses.append(arguments[:2])
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return addresses


@pytest.fixture
def recipe(tmp_path, asked):
    changes = [
        *TINY,
        "backbone.name=toy-with-weights",
        "backbone.pretrained=true",
        "pretrain.epochs=1",
        "finetune.epochs=1",
    ]
    return load_recipe("digits", [*changes, f"system.runs_dir={tmp_path / 'runs'}"], {})


@pytest.fixture
def trained(recipe, asked):
    """Checkpoints of pre-training, which may ask once, and of fine-tuning."""
    with start_run("pretrain", recipe, QUIET) as run:
        pretrain(recipe, run)
    source = checkpoint_of(run)
    asked.clear()
    with start_run("finetune", recipe, QUIET, parent=str(source.path)) as run:
        finetune(recipe, source, run)
    return source, checkpoint_of(run)


def test_fine_tuning_from_a_checkpoint_does_not_ask_for_weights(trained, asked):
    assert asked == []


@pytest.mark.parametrize("way", ["classifier", "encoder", "load", "export", "probe"])
def test_opening_a_checkpoint_does_not_ask_for_weights(trained, recipe, asked, way):
    source, classifier = trained
    asked.clear()
    if way == "classifier":
        load_classifier(classifier, machine_of(recipe))
    elif way == "encoder":
        load_encoder(source)
    elif way == "load":
        rushkit.load(classifier.path)
    elif way == "export":
        load_part(classifier)
    else:
        encoders_of(source, None)
    assert asked == []


def test_a_resumed_training_does_not_ask_for_weights(trained, recipe, asked):
    source, _ = trained
    asked.clear()
    with Run.open(source.path.parent.parent, QUIET) as run:
        pretrain(recipe, run)
    assert asked == []


def test_a_dry_run_does_not_ask_for_weights(recipe, asked):
    pretraining_job(recipe, machine_of(recipe))
    finetuning_job(recipe, None, machine_of(recipe))
    assert asked == []


@pytest.mark.parametrize("name", ["timm/resnet10t", "torchvision/googlenet"])
def test_a_model_with_pretrained_weights_opens_offline_as_the_same_function(tmp_path, monkeypatch, connections, name):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    changes = [f"system.runs_dir={tmp_path / 'runs'}", "data.image_size=32", f"backbone.name={name}"]
    recipe = load_recipe("digits", changes, {})
    objective = components.build_objective(recipe, recipe.finetune)
    network = networks.build_network(recipe, objective, (3, 32), 10).eval()
    if name == "torchvision/googlenet":
        # What torchvision's weights want.
        network.encoder.transform_input = True
    table = recipe.resolved()
    table["backbone"]["pretrained"] = True
    classes = [f"class {index}" for index in range(10)]
    meta = {"stage": "finetune", "recipe": toml.dumps(table), "image_size": 32, "classes": classes}
    with start_run("finetune", recipe, QUIET) as run:
        run.save_checkpoint(1, network.tensors(), meta)
    part = load_part(checkpoint_of(run))
    x = part.example()
    with torch.no_grad():
        assert torch.equal(part.module(x), network(x))
    export_timm(part, tmp_path / "model.safetensors")
    assert connections == []


@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/vgg11.tv_in1k", "torchvision/resnet18"])
def test_offline_no_hub_is_asked_for_pretrained_weights(tmp_path, monkeypatch, connections, name):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("RUSHKIT_OFFLINE", "1")
    with pytest.raises(RushkitError, match="cannot be had"):
        build_backbone(name, {"pretrained": True}, 3, 32, seed=0)
    assert connections == []
