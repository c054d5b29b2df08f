"""What ``--help`` shows: groups of options, the first hour; and which commands do without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rushkit.cli.app import FIRST_HOUR
from rushkit.cli.panels import ATTACK, CERTIFICATE, DATA, MODEL, OUTPUT, RUN, THREATS, TRAINING

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "verb, panels",
    [
        ("pretrain", {MODEL: "--recipe", TRAINING: "--epochs", DATA: "--split", RUN: "--set", OUTPUT: "--json"}),
        ("finetune", {MODEL: "--from", DATA: "--to", TRAINING: "--lr", RUN: "--seed", OUTPUT: "--debug"}),
        (
            "evaluate",
            {MODEL: "--samples", DATA: "--limit", THREATS: "--shift", RUN: "--device", OUTPUT: "--quiet"},
        ),
        ("attack", {MODEL: "--from", ATTACK: "--eps", DATA: "--limit", RUN: "--nproc", OUTPUT: "--json"}),
        ("certify", {MODEL: "--from", CERTIFICATE: "--norm", DATA: "--skip", RUN: "--resume", OUTPUT: "--json"}),
        ("export", {MODEL: "--part", RUN: "--set", OUTPUT: "--to"}),
    ],
)
def test_options_come_in_groups(cli, verb, panels):
    groups = {}
    for block in cli(verb, "--help").out.split("╭─ ")[1:]:
        groups[block.split(" ─")[0]] = block
    assert set(groups) == {"Options", *panels}
    for panel, flag in panels.items():
        assert f" {flag} " in groups[panel]
    # What belongs to no group is the help itself.
    assert groups["Options"].count(" --") == 1


def test_the_first_hour_is_three_commands_that_exist(cli):
    said = cli("--help").out
    assert len(FIRST_HOUR) == 3
    for command, what in FIRST_HOUR.items():
        assert f"{command} " in said
        assert what in said
        assert cli(command.split()[1], "--help").code == 0


LIGHT = (
    "--help",
    "attack --help",
    "data --help",
    "data check --help",
    "data check cifar10",
    "data check digits",
    "data list",
    "pretrain",
    "evaluate --sampels 1",
    "pretrain --noise gaussian",
    "plugins",
    "recipe list",
    "recipe show cifar10",
    "runs clean",
    "runs compare one other",
    "runs list",
    "runs list --json",
    "runs show {run}",
)
# In one process: a start costs more than what they do.
SCRIPT = """
import json, sys
from rushkit.cli.app import main
heavy = []
for words in json.loads(sys.argv[1]):
    main(words)
    if "torch" in sys.modules:
        heavy.append(words)
        break
print(json.dumps(heavy))
"""


def test_what_computes_nothing_does_not_import_torch(runs):
    run = next(runs.glob("*-finetune-*")).name
    commands = [arguments.format(run=run).split() for arguments in LIGHT]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RUSHKIT_PLUGINS": ""},
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [], done.stderr
