"""Extra training images: exact counts in every batch, the same ones after a resume and with any number of ranks."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from thread_ranks import run_ranks
from tiny_runs import QUIET, checkpoint_of, finetuned

from rushkit.data.memory import Split
from rushkit.errors import CheckpointError, DataError, Interrupted, UsageError
from rushkit.objectives.cross_entropy import CrossEntropy
from rushkit.run.folder import Run
from rushkit.setup.start import machine_of, start_run
from rushkit.training.finetune import finetune, finetuning_job
from rushkit.training.mixing import Extra, Feed

pytestmark = pytest.mark.usefixtures("untouched_global_state")

CPU = torch.device("cpu")


def numbered(count: int, first: int, name: str) -> Split:
    """Images whose only pixel, and whose label, is their number."""
    numbers = torch.arange(first, first + count)
    return Split(numbers.to(torch.uint8).view(-1, 1, 1, 1), numbers, name)


def feed(real=10, extra=25, batch=7, share=0.7, smoothing=0.1, seed=0) -> Feed:
    more = Extra(numbered(extra, 100, "extra"), share, smoothing) if extra else None
    return Feed(numbered(real, 0, "real"), more, batch, seed, "finetune", CPU)


@pytest.mark.parametrize("batch, count", [(7, 5), (10, 7), (1024, 717), (2, 1)])
def test_the_count_is_the_nearest_to_the_share(batch, count):
    assert Extra(numbered(1, 0, "extra"), 0.7).count(batch) == count


@pytest.mark.parametrize("share, batch", [(0.1, 4), (0.9, 4)])
def test_a_batch_of_one_kind_is_refused(share, batch):
    with pytest.raises(UsageError, match=r"finetune\.extra\.share"):
        Extra(numbered(1, 0, "extra"), share).count(batch)


def test_every_batch_has_the_same_counts_and_images_keep_their_labels():
    source = feed()
    for epoch in range(4):
        for index in range(2):
            rows = source.rows(epoch, index, 2)
            assert rows.labels.tolist() == rows.images.flatten().tolist()
            assert (rows.labels >= 100).tolist() == [False] * 2 + [True] * 5
            assert rows.label_smoothing.tolist() == pytest.approx([0.0] * 2 + [0.1] * 5)


def test_no_image_comes_twice_before_all_have_come():
    source = feed()
    batches = [source.rows(step // 2, step % 2, 2).labels for step in range(10)]
    real, extra = (torch.cat([labels[part] for labels in batches]) for part in (slice(2), slice(2, 7)))
    assert [sorted(real[start : start + 10].tolist()) for start in (0, 10)] == [list(range(10))] * 2
    assert [sorted(extra[start : start + 25].tolist()) for start in (0, 25)] == [list(range(100, 125))] * 2
    assert real[:10].tolist() != real[10:].tolist()
    assert extra[:25].tolist() != extra[25:].tolist()


def test_both_kinds_have_an_order_of_their_own():
    rows = feed(real=25, extra=25, batch=50, share=0.5).rows(0, 0, 1)
    assert sorted(rows.labels[25:].tolist()) == list(range(100, 125))
    assert rows.labels[:25].tolist() != (rows.labels[25:] - 100).tolist()


def test_a_batch_may_hold_few_images_many_times():
    labels = feed(extra=2).rows(0, 0, 2).labels[2:].tolist()
    assert sorted(labels[:4]) == [100, 100, 101, 101]


def test_a_batch_depends_on_seed_epoch_and_index_alone():
    late = feed().rows(3, 1, 2)
    source = feed()
    for step in range(8):
        rows = source.rows(step // 2, step % 2, 2)
    assert torch.equal(rows.images, late.images)
    assert not torch.equal(feed(seed=1).rows(3, 1, 2).images, late.images)


@pytest.mark.parametrize("extra", [25, 0])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_batch_of_a_single_process(extra, world):
    whole = feed(extra=extra).rows(0, 1, 2)
    parts = run_ranks(lambda: feed(extra=extra).rows(0, 1, 2), world)
    for name in ("images", "labels", "label_smoothing"):
        expected, joined = getattr(whole, name), [getattr(part, name) for part in parts]
        assert (expected is None) == (joined[0] is None)
        assert expected is None or torch.equal(torch.cat(joined), expected), name
    assert sum(part.share.count for part in parts) == whole.share.total


def test_without_smoothing_labels_are_exact():
    assert feed(smoothing=0.0).rows(0, 0, 2).label_smoothing is None


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHKIT_CACHE", str(tmp_path / "cache"))

    def save(images=30, side=8, seed=0, labels=None):
        chance = np.random.default_rng(seed)
        pixels = chance.integers(0, 256, (images, side, side, 3), dtype=np.uint8)
        path = tmp_path / "extra.npz"
        np.savez(path, image=pixels, label=np.arange(images) % 10 if labels is None else labels)
        return path

    return save


def with_extra(tiny, path, *changes):
    return tiny("finetune.freeze=none", f"finetune.extra.path={path}", "finetune.extra.smoothing=0.1", *changes)


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_run_with_extra_images_resumes_bit_for_bit(tiny, at_step, file, step):
    recipe = with_extra(tiny, file())
    whole = checkpoint_of(finetuned(recipe, None))
    # 48 images in batches of 20, of which 14 are extra: three batches an epoch all the same.
    assert (whole.meta["step"], whole.meta["steps_per_epoch"]) == (6, 3)
    at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        finetune(recipe, None, run)
    with Run.open(run.path, QUIET) as resumed:
        finetune(recipe, None, resumed)
    again = checkpoint_of(resumed).tensors
    assert [name for name, tensor in whole.tensors.items() if not torch.equal(again[name], tensor)] == []


def test_other_extra_images_than_those_of_the_run_are_refused(tiny, at_step, file):
    recipe = with_extra(tiny, file())
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        finetune(recipe, None, run)
    file(seed=1)
    with Run.open(run.path, QUIET) as resumed, pytest.raises(CheckpointError, match=r"extra\.npz are not those that"):
        finetune(recipe, None, resumed)


@pytest.mark.parametrize(
    "options, words",
    [({"side": 9}, "are 9x9, those of the data set 8x8"), ({"labels": np.full(30, 10)}, "label 10, outside")],
)
def test_extra_images_that_do_not_fit_are_refused(tiny, file, options, words):
    with pytest.raises(DataError, match=words):
        finetuned(with_extra(tiny, file(**options)), None)


def test_a_missing_file_is_refused(tiny, tmp_path):
    with pytest.raises(DataError, match=r"finetune\.extra\.path"):
        finetuned(with_extra(tiny, tmp_path / "none.npz"), None)


def test_the_job_says_what_it_trains_on(tiny, file):
    recipe = with_extra(tiny, file(), "finetune.extra.limit=25")
    job, _, _ = finetuning_job(recipe, None, machine_of(recipe))
    assert job.images == (
        "48 images of digits/train, and 14 of 20 in each batch from the 25 of extra.npz with labels smoothed by 0.1"
    )


def test_cross_entropy_trains_extra_images_on_their_smoothed_labels(tiny, file, monkeypatch):
    seen = []

    def losses(self, network, memory, batch):
        seen.append(batch.targets())
        yield from original(self, network, memory, batch)

    original = CrossEntropy.losses
    monkeypatch.setattr(CrossEntropy, "losses", losses)
    finetuned(with_extra(tiny, file(), "finetune.epochs=1"), None)
    for targets in seen:
        assert targets.amax(1).tolist() == pytest.approx([1.0] * 6 + [0.91] * 14)


def test_the_recipe_with_generated_images_trains(tiny, file):
    changes = ("data.name=digits", "finetune.epochs=2", "finetune.schedule.warmup_epochs=1")
    recipe = tiny(*changes, f"finetune.extra.path={file()}", recipe="data-aug-ddpm-cifar10")
    saved = checkpoint_of(finetuned(recipe, None))
    assert saved.meta["step"] == 6
    weights = {name: tensor for name, tensor in saved.tensors.items() if name.startswith(("encoder.", "head."))}
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    # The average lags behind what trains.
    assert not torch.equal(saved.tensors["training.live.head.weight"], saved.tensors["head.weight"])
