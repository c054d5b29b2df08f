"""A later attempt of a job whose ranks were started again: the same command line goes on with the run of the first."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from commands import TINY, only, sets

from rushkit.cli import options
from rushkit.distributed.notes import final_code, leave_note, noted_run, read_notes
from rushkit.errors import Interrupted
from rushkit.place import ATTEMPT, ERROR_FILE, JOB_FOLDER, Place

COMMANDS = {
    "pretrain": ("--recipe", "digits", *sets(*TINY), "--lr", "0.1"),
    "finetune": ("--epochs", "2", "--from", "digits"),
    "attack": ("--samples", "2", "--limit", "6", "--protocol", "paper", "--transfer-to", "digits", "--eps", "0.02"),
    "certify": ("--limit", "4", "--samples", "20", *sets("certify.selection=4")),
    "audit": ("--limit", "4", "--samples", "2", "--steps", "2", "--eot", "2", "--queries", "3"),
}


@pytest.fixture
def attempt(folder, monkeypatch):
    """``attempt(1)``: this process is a rank of a job's second attempt, as an agent would start it."""

    def begin(number: int) -> None:
        place = folder / "job" / f"attempt_{number}" / "0"
        place.mkdir(parents=True)
        monkeypatch.setenv(ERROR_FILE, str(place / "error.json"))
        monkeypatch.setenv(ATTEMPT, str(number))

    monkeypatch.setattr(options, "current_place", lambda: Place(local_world=1))
    return begin


def stopped(cli, command: tuple[str, ...], monkeypatch) -> None:
    """Run a command whose stage stops as soon as its run is open."""

    def interrupt(*arguments, **options):
        raise Interrupted("stopped", "go on")

    with monkeypatch.context() as patch:
        for module in ("training.pretrain.train", "training.finetune.train"):
            patch.setattr(f"rushkit.{module}", interrupt)
        for module in ("setup.subject", "robustness.attack"):
            patch.setattr(f"rushkit.{module}.load_classifier", interrupt)
        said = cli(*command)
        assert said.code == 130, said.err


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_same_command_goes_on_with_the_run_of_the_first_attempt(cli, runs, attempt, monkeypatch, verb):
    attempt(0)
    stopped(cli, (verb, *COMMANDS[verb]), monkeypatch)
    run = only(runs, verb)
    before = sorted(runs.iterdir())
    attempt(1)
    said = cli(verb, *COMMANDS[verb])
    assert said.code == 0, said.err
    assert sorted(runs.iterdir()) == before
    told = json.loads((run / "run.json").read_text())
    assert (told["status"], len(told["sessions"])) == ("finished", 2)


def test_a_resumed_command_goes_on_with_the_run_that_it_has_resumed(cli, runs, attempt, monkeypatch):
    """Not with another one that has stopped meanwhile."""
    stopped(cli, ("finetune", *COMMANDS["finetune"]), monkeypatch)
    run = only(runs, "finetune")
    (run / "metrics.jsonl").touch()
    attempt(0)
    stopped(cli, ("finetune", "--resume", "--device", "cpu"), monkeypatch)
    monkeypatch.delenv(ATTEMPT)
    stopped(cli, ("finetune", *COMMANDS["finetune"]), monkeypatch)
    (only(runs, "finetune") / "metrics.jsonl").touch()
    attempt(1)
    assert cli("finetune", "--resume", "--device", "cpu").code == 0
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_an_attempt_before_any_run_was_made_starts_one(cli, runs, attempt):
    attempt(1)
    assert noted_run() is None
    assert cli("finetune", *COMMANDS["finetune"]).code == 0


def test_after_an_error_of_its_own_a_rank_has_nothing_to_do(attempt, folder):
    attempt(0)
    assert final_code() is None
    assert not leave_note("cause", "error: no\n", 3)
    attempt(1)
    assert final_code() == 3


@pytest.mark.parametrize("kind", ["stop", "interrupted"])
def test_an_interruption_is_no_final_error(attempt, kind):
    attempt(0)
    leave_note(kind, "", 130)
    attempt(1)
    assert final_code() is None


def test_notes_come_in_the_order_of_writing_and_only_nproc_prints_them(attempt, folder, monkeypatch):
    paths = [str(folder / f"{rank}.json") for rank in range(3)]
    monkeypatch.setenv(JOB_FOLDER, str(folder))
    for path, text in ((paths[2], "first"), (paths[0], "second")):
        monkeypatch.setenv(ERROR_FILE, path)
        assert leave_note("cause", text, 1)
    assert [note.text for note in read_notes(paths)] == ["first", "second"]


def test_an_error_has_the_form_that_torchrun_shows(attempt, folder, monkeypatch):
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    attempt(0)
    leave_note("cause", "error: no\n", 1)
    file = folder / "job" / "attempt_0" / "0" / "error.json"
    assert ProcessFailure(0, 1, 1, str(file)).message["message"] == "error: no\n"


def test_a_file_of_errors_that_is_no_agents_keeps_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "error.json"))
    leave_note("cause", "error: no\n", 1)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["error.json"]
    assert final_code() is None


@pytest.mark.parametrize(("words", "restarts"), [(("pretrain", "--restarts", "3"), 3), (("evaluate",), 0)])
def test_the_ranks_get_the_command_line_and_the_number_of_restarts(cli, monkeypatch, words, restarts):
    started = []
    monkeypatch.setattr("rushkit.distributed.start.run_ranks", lambda *arguments: started.append(arguments) or 5)
    arguments = [words[0], *(("--recipe", "digits") if restarts else ()), "--nproc", "2", *words[1:]]
    assert cli(*arguments).code == 5
    assert started == [([sys.executable, "-m", "rushkit", *arguments], 2, restarts)]


@pytest.mark.parametrize("verb", ["cluster", "evaluate", "predict", "probe"])
def test_what_keeps_nothing_until_its_end_has_no_restarts(fails, verb):
    assert "no such option" in fails(2, verb, "--nproc", "2", "--restarts", "1").err.lower()
