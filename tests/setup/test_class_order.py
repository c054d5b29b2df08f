"""A permuted order of classes is seen, and chance is not taken for one."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from rushkit.setup.class_order import FALSE_ALARM, explained_by_permutation

TEN = tuple("abcdefghij")


def answers(labels: np.ndarray, accuracy: float, classes: int, seed: int) -> np.ndarray:
    """Predictions that are right with a probability, else any class."""
    chance = np.random.default_rng(seed)
    wrong = chance.integers(0, classes, len(labels))
    return np.where(chance.random(len(labels)) < accuracy, labels, wrong)


LABELS = np.arange(500) % 10


def test_the_order_of_text_instead_of_numbers_is_found():
    # Folders 0, 1, 10, 11, 2, ... against a model whose outputs are 0, 1, 2, ...
    classes = tuple(sorted(map(str, range(12))))
    labels = np.arange(600) % 12
    said = answers(np.array([int(name) for name in classes])[labels], 0.9, 12, 0)
    found = explained_by_permutation(said, labels, classes)
    assert found.permuted > 0.85
    assert found.accuracy < 0.3
    assert set(found.moved) == {(name, classes[int(name)]) for name in classes if classes[int(name)] != name}
    assert found.images == 300
    assert "it seems to know the classes in another order: with them permuted" in found.describe()


def test_two_exchanged_classes_are_found():
    said = answers(LABELS, 0.95, 10, 1)
    said = np.where(said == 3, 5, np.where(said == 5, 3, said))
    assert explained_by_permutation(said, LABELS, TEN).moved == (("d", "f"), ("f", "d"))


@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_right_order_is_left_alone(accuracy, seed):
    assert explained_by_permutation(answers(LABELS, accuracy, 10, seed), LABELS, TEN) is None


def test_the_best_permutation_of_few_guesses_is_no_explanation():
    # With as many classes as images a permutation makes every guess right that is a permutation itself.
    labels = np.arange(20)
    for seed in range(20):
        said = np.random.default_rng(seed).permutation(20)
        assert explained_by_permutation(said, labels, [str(n) for n in labels]) is None


def test_a_constant_answer_is_no_permutation():
    assert explained_by_permutation(np.full(500, 3), LABELS, TEN) is None
    mostly = np.r_[np.zeros(450, int), np.ones(50, int)]
    assert explained_by_permutation(np.ones(500, int), mostly, ("a", "b")) is None


def test_the_false_alarms_are_as_rare_as_stated():
    # A classifier that gains exactly the least gain, from 4 % to 9 %: more than doubled, and more than a guess knows.
    chance, alarms, draws = np.random.default_rng(0), 0, 300
    labels, classes = np.arange(20_000) % 50, [str(n) for n in range(50)]
    for _ in range(draws):
        u = chance.random(len(labels))
        said = np.where(u < 0.04, labels, np.where(u < 0.13, labels ^ 1, 50))
        alarms += explained_by_permutation(said, labels, classes) is not None
    # Binomial(300, 0.001) exceeds 4 with a probability below 1e-4.
    assert alarms <= 4
    assert FALSE_ALARM == 0.001


def test_the_permutation_is_the_best_of_all():
    chance = np.random.default_rng(3)
    labels = chance.integers(0, 4, 400)
    said = np.where(chance.random(400) < 0.8, np.array([2, 0, 3, 1])[labels], chance.integers(0, 4, 400))
    found = explained_by_permutation(said, labels, "abcd")
    best = max(permutations(range(4)), key=lambda order: (said == np.array(order)[labels]).sum())
    assert found.moved == tuple(("abcd"[label], "abcd"[said]) for label, said in enumerate(best) if label != said)


def test_abstentions_and_answers_beyond_the_classes_count_as_wrong():
    said = np.where(LABELS == 0, -1, np.where(LABELS == 1, 77, (LABELS + 1) % 10))
    found = explained_by_permutation(said, LABELS, TEN)
    assert found.permuted == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("classes, images", [(1, 100), (10, 1), (10, 0), (3000, 100)])
def test_what_cannot_be_told_is_not_said(classes, images):
    labels = np.zeros(images, int)
    assert explained_by_permutation(labels, labels, [str(n) for n in range(classes)]) is None
