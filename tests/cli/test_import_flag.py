"""``--import FILE.py``: what a script registered is open to every command; where the file is missing, it is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import TINY, only

from rushkit import registries

# A noise of one's own, and below the main part that trains with it.
SCRIPT = f"""
import rushkit
import torch
from rushkit.errors import NoCertificate

@rushkit.noises.register("triangle")
class Triangle:
    def __init__(self, scale: float):
        self.scale, self.std = scale, scale / 6**0.5

    def sample(self, x, generator=None):
        halves = torch.rand((2, *x.shape), generator=generator)
        return ((halves.sum(0) - 1) * self.scale).to(x.device, x.dtype)

    def certified_radius(self, p, norm, dim):
        raise NoCertificate("no radius", "none")

print("loaded")

if __name__ == "__main__":
    recipe = rushkit.load_recipe("digits", [*{TINY!r}, "noise.name=triangle", "noise.scale=0.4"])
    rushkit.pretrain(recipe)
    rushkit.finetune(recipe, rushkit.open_checkpoint("digits"))
"""
ATTACK = ("attack", "--type", "pgd", "--limit", "4", "--protocol", "paper", "--set", "attack.0.steps=2")


@pytest.fixture(scope="module")
def by_script(tmp_path_factory) -> Path:
    """A folder with the script, and the runs that it made in a process of its own. Not to be written to."""
    place = tmp_path_factory.mktemp("script")
    (place / "triangle.py").write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUSHKIT_")}
    done = subprocess.run(
        [sys.executable, "triangle.py"],
        cwd=place,
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def runs(by_script, folder) -> Path:
    """``runs`` and ``triangle.py`` here, as the script left them."""
    shutil.copytree(by_script / "runs", folder / "runs")
    shutil.copy(by_script / "triangle.py", folder)
    return folder / "runs"


def stop(run: Path) -> None:
    """Let a run look as if it had been interrupted."""
    file = run / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "interrupted"}))


def test_a_model_of_a_script_is_attacked_and_reported(runs, cli):
    said = cli(*ATTACK, "--import", "triangle.py", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["noise"]["name"] == "triangle"
    assert "loaded" in said.err
    said = cli("report", "--import=triangle.py", "--out", "out", str(only(runs, "finetune")))
    assert said.code == 0, said.err
    assert "triangle" in Path("out/report.md").read_text()
    assert "triangle" not in registries.noises


def test_a_run_of_a_script_is_resumed(runs, cli):
    run = only(runs, "finetune")
    stop(run)
    assert cli("finetune", "--resume", "--run", str(run), "--import", "triangle.py").code == 0
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("verb", [ATTACK, ("evaluate",), ("finetune",), ("certify", "--samples", "10")])
def test_without_the_file_the_message_names_it(runs, fails, verb):
    said = fails(2, *verb)
    assert "unknown noise 'triangle'" in said.err
    assert "the run was made with triangle.py, which registers it: add --import triangle.py" in said.err


def test_a_resume_without_the_file_names_it(runs, fails):
    run = only(runs, "finetune")
    stop(run)
    assert "add --import triangle.py" in fails(2, "finetune", "--resume", "--run", str(run)).err


def test_the_variable_names_files_too(runs, cli, monkeypatch):
    shutil.copy("triangle.py", "other.py")
    Path("other.py").write_text(SCRIPT.replace('"triangle")', '"rhombus")'))
    monkeypatch.setenv("RUSHKIT_IMPORT", os.pathsep.join(["triangle.py", "other.py"]))
    names = {row["name"]: row["owner"] for row in json.loads(cli("plugins", "--json").out)["components"]}
    assert (names["triangle"], names["rhombus"]) == ("triangle", "other")


def test_a_file_of_other_contents_is_warned_of(runs, cli):
    Path("triangle.py").write_text(SCRIPT + "# changed\n")
    said = cli("evaluate", "--samples", "1", "--import", "triangle.py")
    assert said.code == 0
    assert "warning: the noise triangle comes from another triangle.py than the run was made with" in said.err


def test_a_run_names_the_file_without_its_folder(runs):
    about = json.loads((only(runs, "finetune") / "run.json").read_text())
    (key,), (source,) = about["registered"].keys(), about["registered"].values()
    assert key == "noise triangle"
    assert source["file"] == "triangle.py"
    assert len(source["sha256"]) == 64


def test_a_run_that_names_a_file_does_not_run_it(runs, fails):
    run = only(runs, "finetune")
    (run / "triangle.py").write_text("raise SystemExit(9)")
    about = json.loads((run / "run.json").read_text())
    about["registered"]["noise triangle"]["file"] = str(run / "triangle.py")
    (run / "run.json").write_text(json.dumps(about))
    stop(run)
    said = fails(2, "finetune", "--resume", "--run", str(run))
    assert "add --import triangle.py," in said.err


def test_the_ranks_of_a_job_run_the_file_too(runs, folder):
    done = subprocess.run(
        [sys.executable, "-m", "rushkit", "evaluate", "--nproc", "2", "--samples", "1", "--import", "triangle.py"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plugins", "--import"), "--import names no file"),
        (("plugins", "--import", "gone.py"), "there is no file gone.py to import"),
        (("--import", "gone.py", "plugins"), "there is no file gone.py to import"),
    ],
)
def test_a_wrong_import_is_one_message(fails, words, message):
    assert message in fails(2, *words).err


def test_a_file_that_raises_is_a_fault_of_a_plugin(fails):
    Path("broken.py").write_text("1 / 0\n")
    assert "broken.py cannot be imported: line 1: ZeroDivisionError" in fails(3, "plugins", "--import", "broken.py").err


def test_help_runs_no_file(cli, monkeypatch):
    monkeypatch.setenv("RUSHKIT_IMPORT", "gone.py")
    assert cli("attack", "--help").code == 0
    assert cli("--version").code == 0


def test_the_verbs_list_it(cli):
    assert "--import" in cli("pretrain", "--help").out


def test_a_command_line_that_succeeds_with_its_flag_in_front(runs, cli):
    assert "triangle" in cli("--import", "triangle.py", "plugins").out
