"""From a model to a page that ranks it: ``certify``, ``verify``, ``publish``, ``--from DIR/NAME``, ``leaderboard``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands import only

ATTACK = ("attack", "--type", "pgd", "--protocol", "strict", "--samples", "2", "--limit", "4", "--eps", "0.1", "-q")
CERTIFY = ("certify", "--norm", "l2", "--samples", "200", "--limit", "3", "-q")


@pytest.fixture
def measured(cli, runs, folder) -> Path:
    """A trained model with an attack whose images are packed, and a certification."""
    for command in ((*ATTACK, "--artifact", "claim.rushkit"), CERTIFY):
        said = cli(*command)
        assert said.code == 0, said.err
    return folder


def test_a_certification_is_verified_and_an_altered_one_exits_with_one(cli, measured):
    run = only(measured / "runs", "certify")
    said = cli("verify", run.name, "--seed", "3")
    assert said.code == 0, said.out + said.err
    assert "3 images, radii follow from the counts; 3 images drawn afresh agree: consistent" in said.out
    assert "This is a lower bound" in said.out
    path = run / "results.json"
    table = json.loads(path.read_text())
    table["outcomes"]["radius"] = [radius + 0.01 for radius in table["outcomes"]["radius"]]
    path.write_text(json.dumps(table))
    said = cli("verify", run.name, "--seed", "3")
    assert said.code == 1, said.out
    assert "RV19 impossible-certificates" in said.out
    assert ": inconsistent" in said.out


def test_a_published_model_is_opened_verified_and_ranked(cli, measured):
    said = cli("publish", "digits", "--to", "board", "--name", "mine")
    assert said.code == 0, said.err
    assert "published: board/mine (runs: 2; artifacts: 1; certifications: 1; weights: " in said.out
    said = cli("evaluate", "--from", "board/mine", "--limit", "8", "--samples", "1", "--json", "-q")
    assert said.code == 0, said.err
    assert json.loads(said.out)["accuracy"][0]["images"] == 8

    said = cli("leaderboard", "board", "--to", "board.html")
    assert said.code == 0, said.err
    assert "1. mine: at most " in said.out
    page = Path("board.html").read_text(encoding="utf-8")
    row = re.sub(r"<[^>]+>", " ", page[page.index(">mine<") :])
    assert "consistent" in row
    assert "4 images scored again" in row
    assert "1 certification made again" in row
    said = cli("publish", "digits", "--to", "board", "--name", "mine")
    assert (said.code, "is there already" in said.err) == (2, True)
