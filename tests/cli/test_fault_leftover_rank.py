"""RANK and WORLD_SIZE that another job left in the shell, and a rank whose peers do not come."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from commands import TINY, sets

START = ("pretrain", "--recipe", "digits", *sets(*TINY))


@pytest.fixture
def port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_environment(monkeypatch: pytest.MonkeyPatch, **variables: object) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def test_a_listing_prints_whatever_rank_is_left_over(cli, monkeypatch):
    in_environment(monkeypatch, RANK=1, WORLD_SIZE=2)
    assert "cifar10" in cli("recipe", "list").out


def test_a_rank_without_a_world_trains_as_a_single_process(cli, monkeypatch):
    in_environment(monkeypatch, RANK=1)
    assert "next: rushkit finetune --from" in cli(*START).out


def test_an_error_of_a_verb_that_does_not_compute_names_no_rank(cli, monkeypatch):
    in_environment(monkeypatch, RANK=1, WORLD_SIZE=2)
    assert cli("recipe", "show", "cifar11").err.startswith("error: unknown recipe 'cifar11'")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is empty"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two': it must be a whole number"),
        ({"WORLD_SIZE": "1" * 30}, f"WORLD_SIZE is '{'1' * 30}': it must be a whole number"),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": ""}, "RANK is empty"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is 2, and WORLD_SIZE 2: ranks go from 0 to 1"),
        ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "1"}, "MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost"}, "MASTER_PORT is not set"),
    ],
)
def test_an_environment_that_makes_no_sense_is_named_with_what_undoes_it(fails, monkeypatch, variables, message):
    in_environment(monkeypatch, **variables)
    said = fails(2, *START)
    assert f"error: the environment variable {message}" in said.err
    assert "unset WORLD_SIZE RANK" in said.err


def test_who_is_missing_is_said_and_the_wait_ends(folder, port):
    where = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    done = subprocess.run(
        [sys.executable, "-m", "rushkit", *START],
        env=os.environ | where | {"RUSHKIT_WAIT": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"waiting for rank 0 of 2 at 127.0.0.1:{port}\n")
    assert f"error: rank 0 of 2 has not come to 127.0.0.1:{port} within 1 seconds" in done.stderr
