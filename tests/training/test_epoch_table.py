"""What training shows on a terminal."""

from __future__ import annotations

import io
import re

from rushkit.run.metrics import read_metrics
from rushkit.run.speaker import Speaker
from rushkit.setup.start import start_run
from rushkit.training.pretrain import pretrain


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_epoch_has_a_row_with_the_figures_of_the_metrics(tiny, monkeypatch):
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with start_run("pretrain", tiny(), Speaker(rank=0)) as run:
        pretrain(tiny(), run)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue().rpartition("\x1b[2K")[2]).splitlines()
    assert shown[0].split() == ["epoch", "loss", "knn", "lr", "time"]
    lines = read_metrics(run.path / "metrics.jsonl")
    rates = {line["epoch"]: line["lr"] for line in lines if line["kind"] == "step"}
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert len(epochs) == 2
    for line, row in zip(epochs, shown[1:], strict=False):
        loss, knn, rate = f"{line['loss']:.3g}", f"{100 * line['knn_accuracy']:.1f} %", f"{rates[line['epoch']]:.3g}"
        assert row.split()[:5] == [str(line["epoch"]), loss, *knn.split(), rate]
