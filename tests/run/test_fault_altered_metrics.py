"""Metrics that were altered after they were written are found: curves and the choice of the best epoch follow them."""

from __future__ import annotations

import json

import pytest

from rushkit.errors import DataError
from rushkit.run.metrics import MetricsLog, read_metrics

ALTERED = {
    "a loss": lambda lines: lines[1].update(loss=0.001),
    "a step": lambda lines: lines[1].update(step=7),
    "an accuracy in words": lambda lines: lines[2].update(knn_accuracy="high"),
    "not a number": lambda lines: lines[2].update(knn_accuracy=float("nan")),
    "what a line is": lambda lines: lines[1].update(kind="epoch"),
    "a figure is gone": lambda lines: lines[2].pop("knn_accuracy"),
    "a figure is added": lambda lines: lines[1].update(knn_accuracy=1.0),
    "a line is gone": lambda lines: lines.pop(1),
    "a line is doubled": lambda lines: lines.insert(1, lines[1]),
    "lines change places": lambda lines: lines.insert(0, lines.pop(1)),
    "a line is added": lambda lines: lines.append({"step": 3, "epoch": 3, "kind": "step", "loss": 1.0}),
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_no_curve_comes_of_altered_metrics(tmp_path, alter):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(step=1, epoch=1, kind="step", loss=2.0)
    log.append(step=2, epoch=1, kind="step", loss=1.5)
    log.append(step=2, epoch=1, kind="epoch", loss=1.75, knn_accuracy=0.5)
    log.close()
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    alter(lines)
    log.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=r"metrics\.jsonl is damaged"):
        read_metrics(log.path)
    with pytest.raises(DataError, match=r"metrics\.jsonl is damaged"):
        log.append(step=3)
