from __future__ import annotations

import hashlib

import pytest
import torch

from rushkit import data
from rushkit.data import digits
from rushkit.errors import DataError, UsageError


def test_the_split_is_fixed_stratified_and_whole() -> None:
    dataset = data.create("digits", root="/nowhere")
    train, test = dataset.split("train"), dataset.split("test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.labels is not None
    assert test.labels is not None
    # The counts that the source states for the 1797 images.
    whole = torch.bincount(train.labels) + torch.bincount(test.labels)
    assert whole.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (torch.bincount(test.labels) - whole * 360 / 1797).abs().max() < 1


def test_the_embedded_values_are_those_of_the_source() -> None:
    labels, stored = digits._read()
    content = labels.tobytes() + stored.tobytes()
    assert hashlib.sha256(content).hexdigest() == "4651cd530cdc50ff2a2f19dfffc2801e7e292b36a99ec79053a9e9ba9f520fcc"
    assert int(stored.max()) == 16


def test_at_their_own_size_the_values_are_scaled_and_the_channels_equal() -> None:
    images = data.create("digits", root="", image_size=8).split("train").images
    _, stored = digits._read()
    assert torch.equal(images[:, 0].flatten(1), (torch.from_numpy(stored[:1437]) * 15.9375).round().to(torch.uint8))
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])


def test_the_default_size_is_32() -> None:
    assert data.create("digits", root="").split("test").images.shape == (360, 3, 32, 32)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="image_size"):
        data.create("digits", root="", image_size=0)
    with pytest.raises(UsageError, match="no split 'unlabeled'"):
        data.create("digits", root="").split("unlabeled")


def test_a_damaged_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits.zlib, "decompress", lambda content: b"short")
    with pytest.raises(DataError, match=r"digits\.bin is damaged: 5 bytes"):
        data.create("digits", root="").split("train")
    assert data.describe("digits").checks[0].status == "wrong"
