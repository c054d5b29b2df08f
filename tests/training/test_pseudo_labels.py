"""Labels of a clustering in place of the data set's: what a batch gets, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from batches import batch_of
from clusterings import clustered, dealt
from tiny_runs import QUIET, checkpoint_of, die, finetuned, pretrained

from rushkit import objectives
from rushkit.errors import CheckpointError, DataError, RushkitError, UsageError
from rushkit.objectives.nt_xent import SimCLR
from rushkit.registries import objectives as registry
from rushkit.results import read
from rushkit.run.checkpoint import save_checkpoint
from rushkit.run.folder import Run
from rushkit.setup.components import build_dataset, load_split
from rushkit.setup.start import machine_of, start_run
from rushkit.setup.subject import Subject
from rushkit.training.finetune import finetune, finetuning_job
from rushkit.training.labels import TABLE_FILE, write_table
from rushkit.training.pretrain import pretrain, pretraining_job

pytestmark = pytest.mark.usefixtures("untouched_global_state")


class Watching(SimCLR):
    """SimCLR that keeps the labels of its batches, and the numbers of classes that it was told."""

    learns_labels = True
    seen: list[object]

    def __init__(self) -> None:
        super().__init__(hidden=16, out=8)
        type(self).seen = []

    def head(self, num_features, classes):
        self.seen.append(tuple(classes))
        return super().head(num_features, classes)

    def losses(self, network, memory, batch):
        labels = None if batch.labels is None else batch.labels.clone()
        self.seen.append((batch.images.clone(), labels, batch.columns, batch.classes))
        yield from super().losses(network, memory, batch)


@pytest.fixture(autouse=True)
def registered():
    objectives.register("watching")(Watching)
    yield
    registry.unregister("watching", Watching.__module__.partition(".")[0])


def watching(tiny, *changes):
    return tiny("pretrain.objective=watching", "pretrain.epochs=1", "pretrain.knn.every=0", *changes)


def images_of(recipe):
    return load_split(recipe, build_dataset(recipe), "train").images


def test_pretraining_never_has_the_classes_of_the_data(tiny, monkeypatch):
    monkeypatch.setattr(Watching, "learns_labels", False)
    pretrained(watching(tiny))
    classes, *batches = Watching.seen
    assert classes == (10,)
    assert [labels for _, labels, _, _ in batches] == [None] * 3


@pytest.mark.parametrize("chosen, columns", [((), (2, 5)), ((5,), (5,)), ((5, 2), (5, 2))])
def test_each_image_of_a_batch_has_its_labels(tiny, chosen, columns):
    run = clustered(watching(tiny), 2, 5)
    recipe = watching(tiny, f"pretrain.labels={run.path}", f"pretrain.labels_clusters={list(chosen)}")
    pretrained(recipe)
    images = images_of(recipe)
    counts, *batches = Watching.seen
    assert counts == columns
    for shown, labels, told, first in batches:
        assert (told, first) == (columns, columns[0])
        places = torch.tensor([int((images == image).flatten(1).all(1).nonzero()) for image in shown])
        expected = torch.stack([places % clusters for clusters in columns], dim=1)
        assert labels.tolist() == (expected[:, 0] if len(columns) == 1 else expected).tolist()


def test_finetuning_has_a_head_for_clusters_and_no_classes(tiny):
    source, changes = checkpoint_of(pretrained(tiny())), ("finetune.labels_clusters=[5]", "data.validation=100")
    run = clustered(tiny(*changes[1:]), 2, 5)
    recipe = tiny(f"finetune.labels={run.path.name}", *changes)
    trained = finetuned(recipe, source)
    checkpoint, results = checkpoint_of(trained), read(trained.path)
    assert checkpoint.tensors["head.weight"].shape[0] == 5
    assert checkpoint.meta["classes"] == [f"cluster {k}" for k in range(5)]
    # Held-out images have classes.
    assert results.validation_accuracy is None
    table = read(run.path).table
    assert (results.labels.table, results.labels.clusters) == (table, [5])
    assert json.loads((trained.path / "run.json").read_text())["labels"]["table"] == table
    with pytest.raises(UsageError, match="tells clusters apart"):
        Subject.open(recipe, checkpoint, split="test")


def test_a_head_may_go_on_from_that_of_the_source_with_the_same_clusters(tiny):
    encoder, run = checkpoint_of(pretrained(tiny())), clustered(tiny(), 4)
    labels = f"finetune.labels={run.path}"
    source = checkpoint_of(finetuned(tiny(labels, "finetune.freeze=all"), encoder))
    recipe = tiny(labels, "finetune.head_start=source", "finetune.epochs=1")
    job, _, _ = finetuning_job(recipe, source, machine_of(recipe))
    assert torch.equal(job.network.head.weight, source.tensors["head.weight"])
    assert torch.equal(job.network.head.bias, source.tensors["head.bias"])
    # A resumed run has its own.
    trained = finetuned(recipe, source)
    assert not torch.equal(checkpoint_of(trained).tensors["head.weight"], source.tensors["head.weight"])
    with Run.open(trained.path, QUIET) as again:
        finetune(recipe, None, again)
    another = clustered(tiny("name=another"), 4, labels=dealt(48, 4).flip(0)[:, None])
    other = tiny(f"finetune.labels={another.path}", "finetune.head_start=source")
    for changed, start, words in (
        (other, source, "is for other classes"),
        (tiny("finetune.head_start=source"), source, "is for other classes"),
        (recipe, replace(source, meta=source.meta | {"classes": list("abcd")}), "is for other classes"),
        (recipe, encoder, "no head to start from"),
        (recipe, None, "random weights has no head"),
    ):
        with pytest.raises(UsageError, match=words):
            finetuning_job(changed, start, machine_of(changed))


@pytest.mark.parametrize("part", ["name", "end", "folder", "recipe"])
def test_a_clustering_is_named_as_other_runs_are(tiny, part):
    recipe = tiny()
    run = clustered(recipe, 4)
    clustered(tiny("name=another"), 3)
    name = {"name": run.path.name, "end": run.path.name[-6:], "folder": str(run.path), "recipe": recipe.name}[part]
    recipe = tiny(f"finetune.labels={name}")
    job, _, _ = finetuning_job(recipe, checkpoint_of(pretrained(tiny())), machine_of(recipe))
    assert (job.columns, job.labels.tolist()) == ((4,), dealt(48, 4).tolist())


REFUSED = {
    "several columns": ((2, 5), {}, (), "2 columns, and fine-tuning takes one"),
    "no such column": ((2, 5), {}, ("finetune.labels_clusters=[7]",), "has no column of 7 clusters"),
    "other images": ((5,), {}, ("data.limit=40",), "48 images of digits/train, and there are 40"),
    "another split": ((5,), {"split": "test"}, (), "are of digits/test, and not of digits/train"),
    "another size": ((5,), {}, ("data.image_size=12",), "of another size or in another order"),
    "extra images": ((5,), {}, ("finetune.extra.path=more.npz",), "images with classes"),
    "validation": ((5,), {}, ("data.validation=9", "finetune.validation.steps=1"), "images with classes"),
    "early stopping": ((5,), {}, ("data.validation=9", "finetune.validation.patience=1"), "images with classes"),
    "another data set": ((5,), {"data": "cifar10/train", "content": "0" * 32}, (), "are of cifar10/train"),
    "another order": ((5,), {"content": "0" * 32}, (), "in another order"),
    "another hash": ((5,), {"table": "0" * 64}, (), "another table than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tiny, case):
    clusters, facts, changes, message = REFUSED[case]
    run = clustered(tiny(), *clusters, **facts)
    recipe = tiny(f"finetune.labels={run.path}", "finetune.freeze=none", *changes)
    with pytest.raises(RushkitError, match=message):
        finetuning_job(recipe, None, machine_of(recipe))


HOSTILE = {
    "too many rows": (dealt(49, 5)[:, None], "no int64 table"),
    "too few": (dealt(47, 5)[:, None], "no int64 table"),
    "one dimension": (dealt(48, 5), "no int64 table"),
    "another type": (dealt(48, 5)[:, None].float(), "no int64 table"),
    "above": (dealt(48, 5)[:, None] + 1, r"outside 0\.\.4"),
    "below": (dealt(48, 5)[:, None] - 1, r"outside 0\.\.4"),
    "other sizes": (dealt(48, 5)[:, None] // 2, "other sizes than stated"),
    "another order": (dealt(48, 5).flip(0)[:, None] * 0 + dealt(48, 5).roll(1)[:, None], "another table|other sizes"),
    "huge": (torch.zeros(1 << 18, 1, dtype=torch.int64), "bytes, more than labels of 48"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_table_is_never_trusted(tiny, case):
    labels, message = HOSTILE[case]
    run = clustered(tiny(), 5)
    save_checkpoint(run.path / TABLE_FILE, {"labels": labels}, {})
    recipe = tiny(f"finetune.labels={run.path}", "finetune.freeze=none")
    with pytest.raises(CheckpointError, match=message):
        finetuning_job(recipe, None, machine_of(recipe))


def damage(name, text):
    return lambda run: (run.path / name).write_text(text)


BROKEN = {
    "no table": (lambda run: (run.path / TABLE_FILE).unlink(), CheckpointError, "there is no table"),
    "no safetensors": (damage(TABLE_FILE, "x" * 100), CheckpointError, "not a safetensors file"),
    "no results": (lambda run: (run.path / "results.json").unlink(), DataError, "no results of a clustering"),
    "damaged results": (damage("results.json", "{}"), DataError, "damaged"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_clustering_is_refused(tiny, case):
    break_it, error, message = BROKEN[case]
    run = clustered(tiny(), 5)
    break_it(run)
    recipe = tiny(f"finetune.labels={run.path}", "finetune.freeze=none")
    with pytest.raises(error, match=message):
        finetuning_job(recipe, None, machine_of(recipe))


def test_a_clustering_that_is_not_finished_is_refused(tiny):
    run = start_run("cluster", tiny(), QUIET)
    write_table(run.path, dealt(48, 5)[:, None])
    run.fail(RuntimeError("the machine went away"))
    recipe = tiny(f"finetune.labels={run.path}", "finetune.freeze=none")
    with pytest.raises(UsageError, match="is failed: it has no labels"):
        finetuning_job(recipe, None, machine_of(recipe))


def test_a_recipe_names_its_newest_clustering_that_is_finished(tiny):
    clustered(tiny(), 5)
    clustered(tiny(), 4)
    start_run("cluster", tiny(), QUIET).fail(RuntimeError("the machine went away"))
    recipe = tiny("finetune.labels=digits", "finetune.freeze=none")
    job, _, _ = finetuning_job(recipe, None, machine_of(recipe))
    assert job.columns == (4,)


def test_a_run_of_another_kind_is_refused(tiny):
    recipe = tiny(f"finetune.labels={pretrained(tiny()).path}", "finetune.freeze=none")
    with pytest.raises(UsageError, match="is a run of pretrain; labels come from one of cluster"):
        finetuning_job(recipe, None, machine_of(recipe))


def test_a_name_of_nothing_or_of_two_is_refused(tiny):
    for number in range(2):
        run = clustered(tiny(), 5)
        run.path.rename(run.path.with_name(f"{number}-the-end"))
    for name, message in (("the-end", "2 runs end in"), ("nothing", "no clustering 'nothing'")):
        recipe = tiny(f"finetune.labels={name}", "finetune.freeze=none")
        with pytest.raises(UsageError, match=message):
            finetuning_job(recipe, None, machine_of(recipe))


def test_an_objective_that_learns_no_labels_gets_none(tiny):
    run = clustered(tiny(), 5)
    recipe = tiny(f"pretrain.labels={run.path}")
    with pytest.raises(UsageError, match="'rush' learns no labels"):
        pretraining_job(recipe, machine_of(recipe))


@pytest.mark.parametrize("begin", [pretrain, lambda recipe: pretraining_job(recipe, machine_of(recipe))])
def test_an_objective_that_learns_labels_is_refused_without_them_before_a_run_begins(tiny, monkeypatch, begin):
    monkeypatch.setattr("rushkit.run.folder.Run.create", None)
    with pytest.raises(UsageError, match="'watching' learns the labels of a clustering, and none is named") as raised:
        begin(watching(tiny))
    assert "rushkit cluster --from digits --clusters 2,10,50,100,500" in raised.value.hint
    assert raised.value.hint.endswith("rushkit pretrain --recipe digits --set pretrain.labels=digits")


@pytest.mark.parametrize("change", ["finetune.labels_clusters=[5]", "pretrain.labels_clusters=[5]"])
def test_columns_need_a_table(tiny, change):
    with pytest.raises(UsageError, match="name its run by labels"):
        tiny(change)


def stopped(recipe, at_step):
    at_step(2, die)
    with pytest.raises(RuntimeError), start_run("finetune", recipe, QUIET) as run:
        finetune(recipe, None, run)
    return run.path


@pytest.mark.parametrize("moved", [False, True], ids=["in its place", "moved"])
def test_a_resumed_training_takes_the_table_that_it_began_with(tiny, at_step, tmp_path, moved):
    changes = ("finetune.freeze=none", "finetune.labels=digits", "finetune.save_every=1steps")
    clustered(tiny(), 5)
    whole = checkpoint_of(finetuned(tiny(*changes), None)).tensors
    folder = stopped(tiny(*changes), at_step)
    # A newer one of the same recipe.
    clustered(tiny(), 4)
    if moved:
        folder = (tmp_path / "runs").rename(tmp_path / "elsewhere") / folder.name
    with Run.open(folder, QUIET) as run:
        finetune(tiny(*changes), None, run)
    again = checkpoint_of(run).tensors
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_a_resumed_training_refuses_another_table(tiny, at_step):
    clustering = clustered(tiny(), 5)
    recipe = tiny("finetune.freeze=none", f"finetune.labels={clustering.path}", "finetune.save_every=1steps")
    folder = stopped(recipe, at_step)
    table = dealt(48, 5).roll(5)[:, None]
    record = read(clustering.path).with_changes(
        table=write_table(clustering.path, table), columns=read(clustered(tiny(), 5, labels=table).path).columns
    )
    (clustering.path / "results.json").write_text(json.dumps(record.to_table()))
    with pytest.raises(CheckpointError, match="the labels changed"), Run.open(folder, QUIET) as run:
        finetune(recipe, None, run)


def test_several_columns_have_no_targets():
    batch = batch_of(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(4, 2, dtype=torch.int64))
    with pytest.raises(UsageError, match="one column"):
        batch.targets()
