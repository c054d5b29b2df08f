"""``rushkit cluster`` from end to end: pseudo-labels of the digits, what trains on them, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import timm
import torch
from commands import TINY, only, sets
from torch import nn

from rushkit import objectives
from rushkit.cli.app import main
from rushkit.cli.complete import complete_changes
from rushkit.objectives.nt_xent import SimCLR
from rushkit.registries import objectives as registry
from rushkit.results import read
from rushkit.run.checkpoint import load_checkpoint


class Telling(SimCLR):
    """SimCLR whose features are to tell clusters, by a linear head of one layer."""

    learns_labels = True

    def attach(self, network, shape):
        self.tells = nn.ModuleList(
            [nn.Linear(network.encoder.num_features, 2), nn.Linear(network.encoder.num_features, 5)]
        )
        return self.tells

    def losses(self, network, memory, batch):
        for loss in super().losses(network, memory, batch):
            features = network.encoder(batch.view())
            terms = [
                nn.functional.cross_entropy(tell(features), y) for tell, y in zip(memory, batch.labels.T, strict=True)
            ]
            yield loss + sum(terms)


@pytest.fixture(autouse=True)
def registered():
    objectives.register("telling")(Telling)
    yield
    registry.unregister("telling", Telling.__module__.partition(".")[0])


@pytest.fixture(scope="session")
def with_clusters(trained, tmp_path_factory):
    place = tmp_path_factory.mktemp("clustered")
    shutil.copytree(trained / "runs", place / "runs")
    patch = pytest.MonkeyPatch()
    patch.chdir(place)
    assert main(["cluster", "--clusters", "2,5", "--starts", "2", "-q"]) == 0
    patch.undo()
    return place


@pytest.fixture
def runs(with_clusters, folder):
    shutil.copytree(with_clusters / "runs", folder / "runs")
    return folder / "runs"


def test_the_run_has_a_table_and_says_what_it_is(cli, runs):
    run = only(runs, "cluster")
    results, table = read(run), load_checkpoint(run / "labels.safetensors")
    assert table.tensors["labels"].shape == (32, 2)
    assert [column.clusters for column in results.columns] == [2, 5]
    assert [column.sizes for column in results.columns] == [
        labels.bincount(minlength=k).tolist() for k, labels in zip((2, 5), table.tensors["labels"].T, strict=True)
    ]
    assert (results.data, results.table, results.starts, results.outside) == ("digits/train", table.hash, 2, "")
    assert json.loads((run / "run.json").read_text())["parent"].startswith("runs")


def test_it_prints_a_table_or_json(cli, runs):
    said = cli("cluster", "--clusters", "10", "--from", "digits")
    assert said.code == 0, said.err
    assert "32 images of digits/train in clusters" in said.out
    assert "features of runs" in said.out
    assert "nothing is chosen by it" in said.out
    assert "next: train on them with --set pretrain.labels=" in said.out
    said = cli("cluster", "--clusters", "3", "--json", "--split", "test")
    assert said.code == 0, said.err
    printed = json.loads(said.out)
    assert (printed["stage"], printed["data"], len(printed["columns"])) == ("cluster", "digits/test", 1)


def test_a_training_on_clusters_and_another_on_its_encoder(cli, runs):
    name = only(runs, "cluster").name
    words = ("pretrain.objective=telling", f"pretrain.labels={name[-6:]}", "pretrain.knn.every=0")
    said = cli("pretrain", "--recipe", "digits", *sets(*TINY, *words))
    assert said.code == 0, said.err
    assert "clusters of" in said.out
    assert read(only(runs, "pretrain")).labels.clusters == [2, 5]
    said = cli("finetune", "-q", *sets(f"finetune.labels={name}", "finetune.labels_clusters=[5]"))
    assert said.code == 0, said.err
    tuned = only(runs, "finetune")
    said = cli("evaluate", "--from", str(tuned))
    assert (said.code, "tells clusters apart, not the classes of digits" in said.err) == (2, True)
    # The encoder counts as a pre-trained one.
    said = cli(
        "finetune",
        "-q",
        "--from",
        str(tuned),
    )
    assert said.code == 0, said.err
    said = cli("evaluate", "-q", "--samples", "1")
    assert said.code == 0, said.err
    said = cli("report", "-q")
    assert said.code == 0, said.err
    assert "was trained on clusters and not classes, by " in (only(runs, "finetune") / "report.md").read_text()


def test_an_encoder_that_learnt_classes_is_no_start_for_others(fails, runs):
    fails(2, "finetune", "--from", str(only(runs, "finetune")))


def test_a_clustering_is_listed_shown_and_completed(cli, runs):
    run = only(runs, "cluster")
    said = cli("runs", "list")
    assert "2, 5 clusters, n = 32" in said.out
    said = cli("runs", "show", str(run))
    assert f"train on its labels: --set pretrain.labels={run.name}" in said.out
    assert "5 clusters of " in said.out
    assert complete_changes("pretrain.labels=") == [(f"pretrain.labels={run.name}", "clusters of digits")]
    assert cli("runs", "clean", "--yes").code == 0
    assert run.is_dir()


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "--clusters is missing"),
        (("--clusters", "two"), "is not a list of whole numbers"),
        (("--clusters", "1,4"), "from 2 on are needed"),
        (("--clusters", "4,4"), "comes twice"),
        (("--clusters", ",".join(map(str, range(2, 70)))), "more than 64"),
        (("--clusters", "5,33,40"), "digits/train has 32 images, too few for 33, 40 clusters"),
        (("--clusters", "3", "--split", "dev"), "has no split 'dev'"),
        (("--clusters", "3", "--from", "timm/resnet10t"), "--to is missing"),
        (("--clusters", "3", "--from", "timm/resnet10x", "--to", "digits"), "timm has no model 'resnet10x'"),
        (("--clusters", "3", "--to", "digitz"), "neither a recipe nor a data set"),
        (("--clusters", "3", "--set", "data.image_size=12"), "12x12"),
        (("--clusters", "3", "--from", "nothing"), "no finished run"),
    ],
)
def test_bad_input_is_one_message(fails, runs, words, message):
    known = set(runs.iterdir())
    assert message in fails(2, "cluster", *words).err
    assert set(runs.iterdir()) == known


def test_an_objective_without_the_labels_that_it_needs_leaves_no_run(fails, runs):
    known = set(runs.iterdir())
    said = fails(2, "pretrain", "--recipe", "digits", *sets("pretrain.objective=telling"))
    assert "learns the labels of a clustering, and none is named" in said.err
    assert "rushkit pretrain --recipe digits --set pretrain.labels=digits" in said.err
    assert set(runs.iterdir()) == known


def test_pretrained_weights_that_cannot_be_had_leave_nothing(fails, runs):
    known = set(runs.iterdir())
    said = fails(1, "cluster", "--from", "timm/resnet10t", "--to", "digits", "--clusters", "3", *sets("data.limit=20"))
    assert "the pretrained weights of timm/resnet10t cannot be had" in said.err
    assert set(runs.iterdir()) == known


def test_pretrained_weights_count_as_outside_data(cli, runs, monkeypatch):
    create, wanted = timm.create_model, []

    def at_hand(name, pretrained=False, **options):
        wanted.append(pretrained)
        torch.manual_seed(0)
        return create(name, False, **options)

    monkeypatch.setattr(timm, "create_model", at_hand)
    changes = sets("data.limit=20", "data.image_size=32")
    monkeypatch.delenv("RUSHKIT_OFFLINE")
    said = cli("cluster", "--from", "timm/resnet10t", "--to", "digits", "--clusters", "3", *changes)
    assert said.code == 0, said.err
    assert "outside data" in said.err
    run = only(runs, "cluster")
    results = read(run)
    assert True in wanted
    assert (results.source, results.recipe) == ("timm/resnet10t", "timm-resnet10t-to-digits")
    assert "as a rule on ImageNet" in results.outside
    assert "mean = [0.485, 0.456, 0.406]" in (run / "recipe.toml").read_text()
    words = sets(*TINY, "data.limit=20", "data.image_size=32", f"finetune.labels={run.name}", "finetune.freeze=none")
    said = cli("finetune", "--recipe", "digits", *words)
    assert said.code == 0, said.err
    assert "as a rule on ImageNet" in read(only(runs, "finetune")).labels.outside
