from __future__ import annotations

import math

import pytest
import torch
from tiny_runs import toy

from rushkit.data.memory import Split
from rushkit.system import Machine
from rushkit.training import knn

pytestmark = pytest.mark.usefixtures("untouched_global_state")

CPU = Machine(torch.device("cpu"), "float32")


def unit(count: int, length: int, seed: int) -> torch.Tensor:
    vectors = torch.randn(count, length, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


def vote_of_neighbours(bank, labels, query, k: int, temperature: float, classes: int) -> int:
    """Wu et al. 2018, section 3.4, written out."""
    similar = sorted(((float(row @ query), int(label)) for row, label in zip(bank, labels, strict=True)), reverse=True)
    scores = [0.0] * classes
    for similarity, label in similar[:k]:
        scores[label] += math.exp(similarity / temperature)
    return max(range(classes), key=scores.__getitem__)


@pytest.mark.parametrize("k, temperature", [(1, 0.1), (7, 0.1), (30, 1.0), (40, 0.5)])
def test_it_agrees_with_the_written_out_vote(k, temperature):
    bank, queries = unit(40, 6, 0), unit(25, 6, 1)
    labels = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(2))
    found = knn.predict(bank, labels, queries, k, temperature, 4)
    assert found.tolist() == [vote_of_neighbours(bank, labels, query, k, temperature, 4) for query in queries]


def test_more_neighbours_than_the_bank_has_are_all_of_it():
    bank, labels, queries = unit(5, 3, 0), torch.tensor([0, 1, 1, 2, 1]), unit(8, 3, 1)
    assert torch.equal(knn.predict(bank, labels, queries, 99, 0.1, 3), knn.predict(bank, labels, queries, 5, 0.1, 3))


def test_weights_decide_against_numbers():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    query = torch.tensor([[0.8, 0.6]])
    labels = torch.tensor([0, 1, 1])
    assert knn.predict(bank, labels, query, 3, 0.1, 2).tolist() == [0]
    assert knn.predict(bank, labels, query, 3, 10.0, 2).tolist() == [1]


def test_queries_of_the_bank_itself_are_right_with_one_neighbour():
    images = torch.randint(0, 256, (600, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = Split(images, torch.arange(600) % 7, "some/train")
    with torch.random.fork_rng():
        encoder = toy()
    assert knn.accuracy(encoder, split, split, 1, 0.1, 7, CPU) == 1.0


def test_features_have_unit_length_and_the_modes_come_back():
    with torch.random.fork_rng():
        encoder = toy()
    encoder.train()
    encoder[1].eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    images = torch.randint(0, 256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = knn.features(encoder, images, CPU)
    assert torch.allclose(found.norm(dim=1), torch.ones(5))
    assert not found.requires_grad
    assert (encoder[0].training, encoder[1].training) == (True, False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
