"""The weighted nearest-neighbour classifier on features (Wu et al. 2018), which tracks the quality of pre-training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rushkit.data.memory import Images, Split
from rushkit.distributed import ranks
from rushkit.models.modes import in_eval_mode
from rushkit.models.passes import pass_size
from rushkit.objectives.nt_xent import unit_rows
from rushkit.setup.components import to_float
from rushkit.system import Machine

# Number of queries that are compared with the bank at once.
_BATCH = 512


@torch.no_grad()
def features(
    encoder: nn.Module, images: Images, machine: Machine, advance: Callable[[int], object] | None = None
) -> Tensor:
    """Return the features (N, D) of uint8 images (N, C, H, W), of unit length in float32, computed in eval mode.

    All ranks must call it: each computes a share of the blocks and gets all features. The encoder's mode is restored.
    ``advance`` is told how many images are done, of all ranks.
    """
    parts = {}
    size = pass_size(encoder, tuple(images.shape[1:]), machine)
    dtype = next((each.dtype for each in encoder.parameters()), torch.float32)
    with in_eval_mode(encoder):
        for start in ranks.own(range(0, len(images), size)):
            block = images[start : start + size].to(machine.device)
            x = to_float(block).to(dtype, memory_format=torch.channels_last)
            with machine.autocast():
                parts[start] = unit_rows(encoder(x).float())
            if advance is not None:
                advance(min(size * ranks.world(), len(images) - start))
    # A rank without a block does not know D.
    length = ranks.largest(max((part.shape[1] for part in parts.values()), default=0))
    rows = torch.zeros(len(images), length, device=machine.device)
    for start, part in parts.items():
        rows[start : start + size] = part
    return ranks.total(rows)


def predict(bank: Tensor, labels: Tensor, queries: Tensor, k: int, temperature: float, classes: int) -> Tensor:
    """Return classes (M,) of queries (M, D) by their k most similar rows of a bank (N, D), weighted exp(cosine / T).

    Example::

        classes = predict(train_features, train_labels, test_features, k=20, temperature=0.1, classes=10)

    Args:
        bank: Unit-length features.
        labels: (N,) int64.
        queries: Unit-length features.
        k: How many neighbours vote; at most N.
        temperature: T.
        classes: How many labels there are.
    """
    predicted = []
    for block in queries.split(_BATCH):
        similarity, neighbour = (block @ bank.T).topk(min(k, len(bank)), dim=1)
        # Relative to the nearest: the same vote, and no exponential of a large number, which would overflow.
        weight = ((similarity - similarity[:, :1]) / temperature).exp()
        score = weight.new_zeros(len(block), classes).scatter_add_(1, labels[neighbour], weight)
        predicted.append(score.argmax(dim=1))
    return torch.cat(predicted)


def accuracy(
    encoder: nn.Module,
    bank: Split,
    queries: Split,
    k: int,
    temperature: float,
    classes: int,
    machine: Machine,
    advance: Callable[[int], object] | None = None,
) -> float:
    """Return the accuracy on labelled queries of the vote of their neighbours in a labelled bank, without noise.

    All ranks must call it: they share the work and get the same answer. ``advance`` is told how many images of bank
    and queries have passed the encoder, of all ranks.
    """
    assert bank.labels is not None
    assert queries.labels is not None
    bank_features = features(encoder, bank.images, machine, advance)
    query_features = features(encoder, queries.images, machine, advance)
    labels = bank.labels.to(machine.device)
    right = torch.zeros((), dtype=torch.int64)
    for start in ranks.own(range(0, len(queries), _BATCH)):
        rows = slice(start, start + _BATCH)
        predicted = predict(bank_features, labels, query_features[rows], k, temperature, classes)
        right += (predicted.cpu() == queries.labels[rows]).sum()
    return int(ranks.total(right)) / len(queries)
