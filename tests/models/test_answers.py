from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rushkit import noises
from rushkit.models.answers import answer_kind, scores_of_labels, scores_of_probabilities
from rushkit.smoothing import SmoothedClassifier


class Labels(nn.Module):
    answer_kind = "labels"

    def forward(self, x: Tensor) -> Tensor:
        return scores_of_labels((x.mean(dim=(1, 2, 3)) > 0.5).long(), 2)


class Unrelated(nn.Module):
    answer_kind = "resnet"


def test_a_module_that_does_not_say_answers_with_logits():
    assert answer_kind(nn.Flatten()) == "logits"
    assert answer_kind(Unrelated()) == "logits"


def test_a_smoothed_classifier_answers_as_its_model_does():
    g = SmoothedClassifier(Labels(), noises.create("none"))
    assert answer_kind(Labels()) == answer_kind(g) == "labels"


@pytest.mark.parametrize("rule", ["majority", "mean"])
def test_scores_of_labels_vote_for_the_label_by_every_rule(rule):
    g = SmoothedClassifier(Labels(), noises.create("none"), samples=1)
    x = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    assert g.predict(x, rule).tolist() == [0, 1]
    assert torch.equal(scores_of_labels(torch.tensor([2, 0]), 3).softmax(dim=1), torch.eye(3)[[2, 0]])


def test_the_softmax_of_scores_of_probabilities_is_the_probabilities():
    p = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    scores = scores_of_probabilities(p)
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores.softmax(dim=1), p)
