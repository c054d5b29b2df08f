from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rushkit.data import memory
from rushkit.data.memory import Split, hold_out_indices, limit, resize
from rushkit.errors import DataError, UsageError


def numbered(count: int, classes: int = 0) -> Split:
    """Images that carry their own index, with labels in turn."""
    images = torch.arange(count).to(torch.uint8).view(-1, 1, 1, 1).expand(count, 3, 4, 4).contiguous()
    return Split(images, torch.arange(count) % classes if classes else None, "numbered")


def hold_out(split: Split, validation: int, seed: int) -> tuple[Split, Split]:
    """Return the training and the validation images of a split."""
    training, held = hold_out_indices(len(split), split.labels, validation, seed, split.name)
    return split.take(training), split.take(held)


def indices(split: Split) -> list[int]:
    return split.images[:, 0, 0, 0].tolist()


def test_a_split_knows_its_length_and_takes_in_the_order_asked_for() -> None:
    taken = numbered(10, 3).take(torch.tensor([7, 2, 2]))
    assert len(taken) == 3
    assert indices(taken) == [7, 2, 2]
    assert taken.labels is not None
    assert taken.labels.tolist() == [1, 2, 2]


def test_a_split_without_labels_takes_limits_and_holds_out() -> None:
    split = numbered(20)
    train, validation = hold_out(split, 5, seed=0)
    assert train.labels is None
    assert limit(split, 3).labels is None
    assert sorted(indices(train) + indices(validation)) == list(range(20))


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (torch.zeros(2, 3, 4, 4), None, "images are torch.float32"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), None, r"\(2, 4, 4\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2), "labels are torch.float32"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "for 2 images"),
    ],
)
def test_what_a_plugin_gives_wrongly_is_named(images: torch.Tensor, labels: torch.Tensor | None, words: str) -> None:
    with pytest.raises(DataError, match=f"mine/train: .*{words}"):
        Split(images, labels, "mine/train")


def test_a_smaller_limit_is_the_beginning_of_a_larger_one() -> None:
    split = numbered(200, 10)
    assert indices(limit(split, 30)) == indices(limit(split, 100))[:30]
    assert len(set(indices(limit(split, 100)))) == 100
    # Not merely the first images of the file, which may be sorted by class.
    assert indices(limit(split, 30)) != list(range(30))


@pytest.mark.parametrize("count", [0, 200, 1000])
def test_a_limit_that_takes_everything_is_the_split_itself(count: int) -> None:
    split = numbered(200)
    assert limit(split, count) is split


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(UsageError, match="-1"):
        limit(numbered(3), -1)


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(lambda counts: sum(counts) > 1),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_holding_out_divides_the_images_and_each_class_gives_its_share(counts: list[int], data: st.DataObject) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    validation = data.draw(st.integers(1, len(labels) - 1))
    images = torch.arange(len(labels)).to(torch.uint8).view(-1, 1, 1, 1)
    train, held = hold_out(Split(images, labels, "drawn"), validation, seed=data.draw(st.integers(0, 9)))
    assert len(held) == validation
    assert sorted(indices(train) + indices(held)) == list(range(len(labels)))
    assert held.labels is not None
    got = torch.bincount(held.labels, minlength=len(counts)).tolist()
    for count, found in zip(counts, got, strict=True):
        assert abs(found - count * validation / len(labels)) < 1


def test_holding_out_depends_on_the_seed_alone() -> None:
    split = numbered(100, 10)
    first, again, other = (indices(hold_out(split, 20, seed)[1]) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("validation", [0, 10, 11, -1])
def test_holding_out_too_many_says_how_many_there_are(validation: int) -> None:
    with pytest.raises(UsageError, match=f"cannot hold {validation} of the 10 images of numbered"):
        hold_out(numbered(10), validation, seed=0)


def test_resizing_to_a_divisor_keeps_constants_and_averages_with_a_triangle() -> None:
    # Antialiased by 2: weights 1, 3, 3, 1 over 8 in each direction, away from the border.
    row = torch.tensor([0, 0, 0, 80, 160, 240, 240, 240], dtype=torch.uint8)
    images = row.expand(1, 3, 8, 8).contiguous()
    small = resize(images, 4)
    assert small.shape == (1, 3, 4, 4)
    assert small[0, 0, 2, 1] == (1 * 0 + 3 * 0 + 3 * 80 + 1 * 160) // 8
    assert torch.equal(
        resize(torch.full((2, 3, 9, 9), 77, dtype=torch.uint8), 4), torch.full_like(small, 77)[:1].repeat(2, 1, 1, 1)
    )


def test_resizing_agrees_with_pillow_within_its_rounding() -> None:
    images = torch.randint(0, 256, (3, 3, 96, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ours = resize(images, 32)
    for image, small in zip(images, ours, strict=True):
        peer = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((32, 32), Image.Resampling.BILINEAR)
        reference = torch.frombuffer(bytearray(peer.tobytes()), dtype=torch.uint8).view(32, 32, 3).permute(2, 0, 1)
        assert (small.int() - reference.int()).abs().max() <= 1


def test_the_block_size_changes_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (7, 3, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    whole = resize(images, 5)
    monkeypatch.setattr(memory, "BLOCK_BYTES", 2 * 4 * 3 * 12 * 12)
    assert torch.equal(resize(images, 5), whole)


def test_a_selection_too_large_for_memory_lies_in_a_file_that_leaves_no_name(monkeypatch, cache) -> None:
    monkeypatch.setattr(memory, "MEMORY_BYTES", 100)
    monkeypatch.setattr(memory, "BLOCK_BYTES", 200)
    split = numbered(50, 5)
    train, validation = hold_out(split, 10, seed=0)
    assert sorted(indices(train) + indices(validation)) == list(range(50))
    assert list(cache.iterdir()) == []
    train.images.zero_()
    assert indices(split) == list(range(50))
