"""A training whose images stay in their files has the batches, and so the weights, of one that has them in memory."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import checkpoint_of, finetuned, folder_of_images, pretrained

from rushkit import data
from rushkit.data import folder as folder_module
from rushkit.data.decoding import OnDemand
from rushkit.training.mixing import Extra, Feed

CPU = torch.device("cpu")


@pytest.fixture
def pictures(tmp_path):
    return folder_of_images(tmp_path / "pictures", size=10)


@pytest.mark.parametrize("with_extra", [False, True])
def test_the_batches_are_the_same(pictures, with_extra):
    dataset = data.create("folder", root=str(pictures), image_size=8)
    batches = {}
    # In this order: what is in the cache is used however large it is.
    for where, memory in (("files", 0), ("memory", 2**31)):
        split, more = (dataset.split(name, memory=memory) for name in ("train", "test"))
        assert isinstance(split.images, OnDemand) == (where == "files")
        feed = Feed(split, Extra(more, 0.25) if with_extra else None, 7, 3, "finetune", CPU)
        batches[where] = [feed.rows(epoch, index, 4) for epoch in range(2) for index in range(4)]
    for ours, theirs in zip(*batches.values(), strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)


def test_a_training_ends_with_the_same_weights_and_says_where_its_images_are(tiny, pictures, monkeypatch):
    changes = ("data.name=folder", f"data.path={pictures}", "data.image_size=8", "data.limit=0")
    recipe = tiny(*changes, "pretrain.batch_size=8", "finetune.batch_size=8", "pretrain.epochs=1", "finetune.epochs=1")
    weights, said = [], []
    for why in ("", "there is no room"):
        monkeypatch.setattr(folder_module, "_too_large", lambda *_, why=why: why)
        monkeypatch.setenv("RUSHKIT_CACHE", f"{pictures}-cache-{bool(why)}")
        encoder = pretrained(recipe)
        classifier = finetuned(recipe, checkpoint_of(encoder))
        weights.append([checkpoint_of(run).tensors for run in (encoder, classifier)])
        said.append([(run.path / "log.txt").read_text() for run in (encoder, classifier)])
    for ours, theirs in zip(*weights, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all("images: in memory" in log for log in said[0])
    assert all("images: decoded anew for each batch, by " in log and "there is no room" in log for log in said[1])
    assert all("note: the images are resized from " in log for logs in said for log in logs)
