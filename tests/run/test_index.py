"""With the index every run is what it is without: whatever changed, and whatever the index says."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from rushkit.report.listing import listed_runs
from rushkit.report.terminal.listing import RunsTable
from rushkit.run import index as index_module
from rushkit.run import info, size
from rushkit.run.index import INDEX_FILE, RunIndex
from rushkit.run.info import RunInfo, find_runs, info_of, is_run, is_stub
from rushkit.run.named import run_named
from rushkit.run.size import known_size, size_of

RESULTS = {"stage": "finetune", "recipe": "digits", "epochs": 1, "source": None, "loaded": 0, "trainable": ["head.w"]}


@pytest.fixture(autouse=True)
def kept_at_once(monkeypatch):
    """However few runs there are, and however new their files."""
    monkeypatch.setattr(index_module, "_WORTH", 1)
    monkeypatch.setattr(index_module, "_SETTLED", -1)


def write(folder: Path, status: str = "finished", recipe: str = "digits", seed: int = 0, loss: float = 0.25) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "verb": "finetune",
        "recipe": recipe,
        "status": status,
        "started": "2030-01-01T00:00:00+00:00",
        "seed": seed,
    }
    (folder / "run.json").write_text(json.dumps(told))
    (folder / "recipe.toml").write_text(f'[noise]\nname = "uniform"\nscale = 0.{seed + 1}\n')
    (folder / "results.json").write_text(json.dumps(RESULTS | {"loss": loss}))


def name(number: int) -> str:
    return f"20300101-000000-finetune-digits-{number:06x}"


@pytest.fixture
def root(tmp_path) -> Path:
    for number in range(4):
        write(tmp_path / "runs" / name(number), seed=number)
    return tmp_path / "runs"


def read_one_by_one(root: Path) -> list[RunInfo]:
    runs = [info_of(folder) for folder in root.iterdir() if is_run(folder) or is_stub(folder)]
    return sorted(runs, key=lambda run: (run.started, run.path.name), reverse=True)


def shown(root: Path, index: RunIndex | None) -> str:
    text = io.StringIO()
    Console(file=text, width=150).print(RunsTable(listed_runs(root, index=index)))
    return text.getvalue()


def shown_and_kept(root: Path) -> str:
    with RunIndex(root) as index:
        return shown(root, index)


@pytest.mark.parametrize("seed", range(5))
def test_after_any_changes_the_list_is_that_without_an_index(tmp_path, seed):
    root, draw = tmp_path / "runs", random.Random(seed)
    root.mkdir()
    for _ in range(30):
        folder = root / name(draw.randrange(6))
        match draw.randrange(8):
            case 0 if folder.exists():
                shutil.rmtree(folder)
            case 1 if folder.exists():
                (folder / draw.choice(["run.json", "results.json", "recipe.toml"])).write_text(draw.choice(["", "{}"]))
            case 2 if folder.exists():
                (folder / draw.choice(["run.json", "results.json", "recipe.toml"])).unlink(missing_ok=True)
            case 3:
                (root / INDEX_FILE).write_text(draw.choice(["", "[]", "{", '{"schema": 1, "runs": 3}']))
            case 4:
                (root / draw.choice(["notes", name(9)])).mkdir(exist_ok=True)
            case _:
                status = draw.choice(["finished", "running", "failed", "interrupted"])
                write(folder, status, draw.choice(["digits", "stl10"]), draw.randrange(3), draw.random())
        assert find_runs(root) == read_one_by_one(root)
        assert shown_and_kept(root) == shown(root, None)


def test_what_has_not_changed_is_not_read_again(root, monkeypatch):
    text = shown_and_kept(root)
    for reader in ("read_run_file", "read"):
        monkeypatch.setattr(info, reader, pytest.fail)
    monkeypatch.setattr(size, "_walked", pytest.fail)
    monkeypatch.setattr("rushkit.report.listing.noise_of_run", pytest.fail)
    assert shown_and_kept(root) == text
    assert "uniform 0.3" in text
    # A name is looked up in the same index.
    assert run_named("digits", root)[0].path.name == name(3)


@pytest.mark.parametrize("file", ["run.json", "recipe.toml", "results.json"])
def test_a_file_of_the_same_size_and_time_is_read_again(root, file):
    before = shown_and_kept(root)
    path = root / name(1) / file
    about, old, new = path.stat(), b"0.25" if file == "results.json" else b"0.2", b"0.75"
    old, new = (b'"seed": 1', b'"seed": 7') if file == "run.json" else (old, new[: len(old)])
    with path.open("r+b") as opened:
        text = opened.read()
        assert old in text
        opened.seek(0)
        opened.write(text.replace(old, new))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (about.st_size, about.st_mtime_ns)
    assert shown_and_kept(root) == shown(root, None) != before
    assert find_runs(root) == read_one_by_one(root)


def add_checkpoint(run: Path) -> None:
    (run / "checkpoints" / "last.safetensors").write_bytes(b"weights")


def replace_log(run: Path) -> None:
    (run / "new").write_text("a longer log")
    (run / "new").replace(run / "log.txt")


def delete_log(run: Path) -> None:
    (run / "log.txt").unlink()


def go_on_with_it(run: Path) -> None:
    with (run / "log.txt").open("a") as log:
        log.write("resumed\n")
    write(run, loss=0.5)


@pytest.mark.parametrize("change", [add_checkpoint, replace_log, delete_log, go_on_with_it])
def test_the_size_of_a_run_that_has_changed_is_measured_again(root, change):
    run = root / name(1)
    (run / "checkpoints").mkdir()
    (run / "log.txt").write_text("log")
    with RunIndex(root) as index:
        before = known_size(run, index)
    assert before == size_of(run)
    change(run)
    with RunIndex(root) as index:
        assert known_size(run, index) == size_of(run) != before


@pytest.mark.parametrize("lie", ["", "-3", "9" * 5000, "1\n../../x", "[" * 1000])
def test_a_size_that_is_none_is_measured_again(root, lie):
    run = root / name(1)
    with RunIndex(root) as index:
        known_size(run, index)
    table = json.loads((root / INDEX_FILE).read_text())
    table["runs"][name(1)]["size"][1] = lie
    (root / INDEX_FILE).write_text(json.dumps(table))
    with RunIndex(root) as index:
        assert known_size(run, index) == size_of(run)


def entries(change) -> str:
    run = {kind: [[1, 2, 3, 4], "{}"] for kind in ("run", "noise", "figure")}
    return json.dumps({"schema": 1, "made_by": index_module._made_by(), "runs": {name(1): change(run)}})


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[" * 100_000, '{"schema": 2}', "\x00", *map(entries, (str, list, lambda run: {"run": run}))],
)
def test_an_index_that_is_none_is_ignored_and_written_anew(root, text):
    good = shown_and_kept(root)
    (root / INDEX_FILE).write_text(text)
    assert shown_and_kept(root) == good
    kept = json.loads((root / INDEX_FILE).read_text())["runs"]
    assert {folder: sorted(run) for folder, run in kept.items() if isinstance(run, dict)}.keys() >= {name(2), name(3)}


@pytest.mark.parametrize("lie", ["", "{}", "[1, 2]", '{"verb": "finetune"}', "[" * 100_000, '["\\u001b[31m", false]'])
def test_a_text_that_is_no_such_text_is_made_again(root, lie):
    good = shown_and_kept(root)
    table = json.loads((root / INDEX_FILE).read_text())
    for run in table["runs"].values():
        run["run"][1] = lie
        run["figure"][1] = lie
    (root / INDEX_FILE).write_text(json.dumps(table))
    assert find_runs(root) == read_one_by_one(root)
    text = shown_and_kept(root)
    # A lie that has the form of a figure is shown like any text of others.
    assert "\x1b" not in text
    assert text == good or lie.startswith('["')


def test_the_index_of_another_rushkit_is_none(root, monkeypatch):
    shown_and_kept(root)
    monkeypatch.setattr(index_module, "_made_by", lambda: "another")
    assert RunIndex(root)._runs == {}


def test_a_run_that_works_is_not_kept(root):
    write(root / name(7), status="running")
    shown_and_kept(root)
    assert name(7) not in json.loads((root / INDEX_FILE).read_text())["runs"]


def test_a_file_that_changed_just_now_is_not_kept(root, monkeypatch):
    monkeypatch.setattr(index_module, "_SETTLED", 10**18)
    shown_and_kept(root)
    assert not (root / INDEX_FILE).exists()


def test_a_run_that_is_gone_is_forgotten(root):
    find_runs(root)
    shutil.rmtree(root / name(0))
    write(root / name(5))
    find_runs(root)
    assert set(json.loads((root / INDEX_FILE).read_text())["runs"]) == {name(1), name(2), name(3), name(5)}


def test_a_folder_that_cannot_be_written_has_no_index(root, monkeypatch):
    def refuse(path, chunks):
        raise PermissionError(13, "no")

    monkeypatch.setattr(index_module, "replace_file", refuse)
    assert shown_and_kept(root) == shown(root, None)
    assert not (root / INDEX_FILE).exists()


def test_few_runs_need_no_index(root, monkeypatch):
    monkeypatch.setattr(index_module, "_WORTH", 100)
    shown_and_kept(root)
    assert not (root / INDEX_FILE).exists()
