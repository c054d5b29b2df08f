"""A page of nine models with a thousand images each stays small."""

from __future__ import annotations

import re

import numpy as np
from synthetic_runs import CLASSES, attack_row, attacks, audited, certification, evaluation, taken

from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.page.render import page

MODELS, IMAGES = 9, 1000
# The page has to stay below this, of which the images of nine models take the most.
LARGEST, DRAWINGS = 5_000_000, 1_000_000


def nine_models(runs):
    """Models of which a thousand images were evaluated, attacked at four eps, and certified."""
    draw = np.random.default_rng(0)
    for number in range(MODELS):
        epochs = (
            {"step": step, "epoch": step, "kind": "epoch", "loss": float(draw.random())} for step in range(1, 1501)
        )
        model = runs.add("finetune", metrics=list(epochs), name=f"model {number}")
        right = draw.random(IMAGES) < 0.9
        runs.add("evaluate", model, evaluation(right.tolist()))
        rows = [
            taken(attack_row((right * draw.integers(0, 11, IMAGES)).tolist(), eps=eps / 255, notes=[]))
            for eps in (2, 4, 8, 16)
        ]
        runs.add("attack", model, attacks(*rows, classes=CLASSES))
        results = certification(draw.random(IMAGES).tolist(), right.tolist(), reach=1.0)
        p_lower = draw.random(IMAGES).tolist()
        runs.add("certify", model, results.with_changes(outcomes=results.outcomes.with_changes(p_lower=p_lower)))
        runs.add("audit", model, audited("pass", "warn"))
        yield model


def test_nine_models_of_a_thousand_images(runs):
    text = page(build_document(build_report([gather(model) for model in nine_models(runs)])), "report.json")
    drawings = re.findall(r"<figure>.*?</figure>", text, re.DOTALL)
    assert len(drawings) > 10
    assert sum(map(len, drawings)) < DRAWINGS
    assert len(text.encode()) < LARGEST
