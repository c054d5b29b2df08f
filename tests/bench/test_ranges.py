"""benchmarks/ranges.py: tables of several runs become one of ranges."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "ranges.py"


@pytest.fixture(scope="module")
def ranges():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FILE.parent)
        yield importlib.import_module("ranges")


def test_a_cell_of_several_runs_says_its_range(ranges, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUSHKIT_TABLES", str(tmp_path / "tables.jsonl"))
    for speed, ratio in ((250.4, 0.97), (240.0, 0.93), (251.0, 0.9304)):
        ranges.show("votes", {"ours": {"images/s": speed, "x": ratio}, "bare": {"images/s": 260.0}})
    ranges.show("other", {"row": {"y": 12.345}})
    assert "12.3" in capsys.readouterr().out
    tables = ranges.joined((tmp_path / "tables.jsonl").read_text().splitlines())
    assert list(tables) == ["votes", "other"]
    header, ours, bare = ranges.words("votes", tables["votes"]).splitlines()
    assert header.split() == ["votes", "images/s", "x"]
    assert ours.split(maxsplit=1)[1].split("  ")[-1].strip() == "0.930 to 0.970"
    assert "240 to 251" in ours
    assert bare.split() == ["bare", "260"]


def test_without_the_variable_nothing_is_kept(ranges, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("RUSHKIT_TABLES", raising=False)
    monkeypatch.chdir(tmp_path)
    ranges.show("votes", {"ours": {"x": 1.0}})
    assert "1.000" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["nonsense", "{}", '{"title": "a", "rows": 3}', '{"title": "a", "rows": {"b": 1}}'])
def test_a_file_that_is_no_table_is_refused_with_its_line(tmp_path, content):
    path = tmp_path / "tables.jsonl"
    path.write_text(json.dumps({"title": "a", "rows": {"b": {"c": 1}}}) + "\n" + content + "\n")
    done = subprocess.run([sys.executable, FILE, path], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "line 2 is no table" in done.stderr
    assert "Traceback" not in done.stderr
