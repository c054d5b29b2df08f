"""Fixtures of the reports' tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_runs import EPS, Runs, attack_row, attacks, audited, certification, evaluation, probed

from rushkit.run.info import RunInfo, find_runs


@pytest.fixture
def runs(tmp_path) -> Runs:
    return Runs(tmp_path / "runs")


@pytest.fixture
def measured(runs) -> RunInfo:
    """A model of which everything was measured."""
    model = runs.model()
    runs.add("evaluate", model, evaluation([True] * 9 + [False] * 3))
    rows = [
        attack_row([1] * 8 + [0] * 4, "paper"),
        attack_row([10] * 3 + [5] + [0] * 8, "strict"),
        attack_row([10] * 2 + [0] * 10, "strict", eps=2 * EPS),
        attack_row([1] * 9 + [0] * 3, "paper", attack="autoattack"),
    ]
    runs.add("attack", model, attacks(*rows))
    runs.add("certify", model, certification([0.05, 0.15, 0.25, 0.25], [True, True, True, False]))
    runs.add("audit", model, audited("pass", "fail", "warn"))
    encoder = next(run for run in find_runs(runs.root) if run.verb == "pretrain")
    runs.add("probe", encoder, probed("pre-trained", "random"))
    return model


@pytest.fixture
def page_folder(tmp_path) -> Path:
    return tmp_path / "page"
