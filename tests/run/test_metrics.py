from __future__ import annotations

import numpy as np
import pytest

from rushkit.errors import DataError, NumericsError, RushkitError
from rushkit.run.metrics import MetricsLog, read_metrics


def steps(path) -> list[int]:
    return [line["step"] for line in read_metrics(path)]


def test_a_line_can_be_read_as_soon_as_it_is_appended(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(step=1, epoch=0, loss=np.float64(0.25))
    assert read_metrics(log.path) == [{"step": 1, "epoch": 0, "loss": 0.25}]
    log.append(step=2, epoch=0, loss=0.125)
    assert steps(log.path) == [1, 2]
    log.close()


def test_a_missing_file_has_no_lines(tmp_path):
    assert read_metrics(tmp_path / "none") == []
    MetricsLog(tmp_path / "none").keep_until(3)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("killed_after", range(8))
@pytest.mark.parametrize("torn", [b"", b"{", b'{"step": 9, "lo', b"\x00\x00\x00"])
def test_a_resumed_run_has_neither_gaps_nor_repeats(tmp_path, killed_after, torn):
    path = tmp_path / "metrics.jsonl"
    first = MetricsLog(path)
    for step in range(1, killed_after + 1):
        first.append(step=step)
    first.close()
    with path.open("ab") as file:
        file.write(torn)
    checkpoint = killed_after // 3 * 3
    again = MetricsLog(path)
    again.keep_until(checkpoint)
    for step in range(checkpoint + 1, 10):
        again.append(step=step)
    again.close()
    assert steps(path) == list(range(1, 10))


def test_a_torn_last_line_is_cut_off_before_the_next_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append(step=1)
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 2')
    assert steps(path) == [1]
    log.append(step=2)
    log.close()
    assert path.read_bytes().startswith(whole + b'{"step": 2, "chain": ')
    assert steps(path) == [1, 2]


def test_lines_without_a_step_survive_a_resume(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(note="start")
    log.append(step=5)
    log.keep_until(4)
    assert read_metrics(log.path) == [{"note": "start"}]


def test_a_nan_is_named_and_not_written(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with pytest.raises(NumericsError, match=r"metrics\.jsonl: loss is nan"):
        log.append(step=1, loss=float("nan"))
    assert not log.path.exists()


@pytest.mark.parametrize("line", [b"no json", b"[1]", b'{"step": 2}', b"\xff", b"[" * 100_000])
def test_a_bad_line_in_the_middle_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in (1, 2, 3):
        log.append(step=step)
    log.close()
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(DataError, match=r"metrics.jsonl is damaged: line 2"):
        read_metrics(path)


def test_a_file_that_cannot_be_written_is_a_clear_error(tmp_path):
    log = MetricsLog(tmp_path / "none" / "metrics.jsonl")
    with pytest.raises(RushkitError, match="cannot write"):
        log.append(step=1)


def test_a_rank_that_follows_writes_nothing(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", writes=False)
    log.append(step=1)
    log.keep_until(0)
    assert not log.path.exists()
