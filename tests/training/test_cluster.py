"""The stage of clustering: the same table for any number of ranks, features of unit length, and what they owe to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from clusterings import clustered
from thread_ranks import run_ranks
from tiny_runs import QUIET, checkpoint_of, finetuned, pretrained

from rushkit.results import read
from rushkit.run.checkpoint import load_checkpoint
from rushkit.setup.components import build_dataset, load_split, to_float
from rushkit.setup.model import load_encoder
from rushkit.setup.start import start_run
from rushkit.setup.subject import fingerprint_of
from rushkit.training import cluster as stage
from rushkit.training import knn
from rushkit.training.cluster import cluster, matched, outside_of
from rushkit.training.kmeans import kmeans

pytestmark = pytest.mark.usefixtures("untouched_global_state")


def table_of(results):
    return load_checkpoint(f"{results.run}/labels.safetensors").tensors["labels"].tolist()


def clustering(recipe, source, numbers, **options):
    with start_run("cluster", recipe, QUIET) as run:
        return cluster(recipe, source, numbers, run=run, **options)


def test_any_number_of_ranks_makes_the_same_table(tiny, monkeypatch):
    recipe = tiny()
    source = checkpoint_of(pretrained(recipe))
    # Several blocks of images, the last one short.
    monkeypatch.setattr(knn, "pass_size", lambda *_: 9)
    alone = clustering(recipe, source, [2, 7], starts=2)
    for world in (2, 3):
        everywhere = run_ranks(lambda: clustering(recipe, source, [2, 7], starts=2), world)
        assert [results.columns for results in everywhere] == [alone.columns] * world
        assert [results.table for results in everywhere] == [alone.table] * world
        assert table_of(everywhere[0]) == table_of(alone)


def test_labels_are_those_of_the_features_of_clean_images_in_eval_mode(tiny):
    recipe = tiny("system.precision=bf16", "pretrain.split=test")
    source = checkpoint_of(pretrained(tiny()))
    results = clustering(recipe, source, [4])
    images = load_split(recipe, build_dataset(recipe), "test")
    features = load_encoder(source)(to_float(images.images).contiguous(memory_format=torch.channels_last))
    expected = kmeans(torch.nn.functional.normalize(features), 4, recipe.system.seed)
    assert [row[0] for row in table_of(results)] == expected.labels.tolist()
    assert results.columns[0].inertia == pytest.approx(expected.inertia, rel=1e-4)
    assert (results.data, results.content) == ("digits/test", fingerprint_of(images))
    # Of unit length: no distance is above 2.
    assert results.columns[0].inertia <= 4 * len(images)


def test_the_labels_of_the_data_change_no_cluster(tiny, monkeypatch):
    recipe, load = tiny(), stage.components.load_split
    source = checkpoint_of(pretrained(recipe))
    tables = []
    for change in (lambda labels: labels, lambda labels: labels.flip(0), lambda labels: None):
        monkeypatch.setattr(
            stage.components,
            "load_split",
            lambda *given, change=change: replace(split := load(*given), labels=change(split.labels)),
        )
        tables.append(table_of(clustering(recipe, source, [3])))
    assert tables == tables[:1] * 3


def test_what_is_written_is_what_is_returned(tiny):
    recipe = tiny()
    results = clustering(recipe, checkpoint_of(pretrained(recipe)), [3])
    assert read(results.run) == results


def test_matching_is_the_best_one_and_wants_as_many_clusters():
    classes = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    clusters = torch.tensor([2, 2, 1, 0, 0, 1, 1, 0])
    assert matched(clusters, classes, 3) == 6 / 8
    assert matched(clusters, classes, 4) is None
    assert matched(clusters, None, 3) is None


def test_features_of_outside_data_are_flagged_and_stay_so(tiny):
    recipe = tiny()
    source = checkpoint_of(pretrained(recipe))
    assert outside_of(recipe, source) == ""
    origin = {"file": "/far/away/net.pt", "sha256": "0" * 64, "renamed": {}, "ignored": [], "notes": []}
    assert "net.pt" in outside_of(recipe, replace(source, meta=source.meta | {"imported": origin}))
    # A training on labels from outside has learnt from outside.
    run = clustered(recipe, 5, outside="outside data: a test")
    tuned = checkpoint_of(finetuned(tiny(f"finetune.labels={run.path}"), source))
    assert outside_of(recipe, tuned) == "outside data: a test"
