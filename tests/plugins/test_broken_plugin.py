"""A distribution in which everything is wrong: it breaks its own names, says why, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
from installed import install, python, rushkit

FIXTURE = Path(__file__).parent / "fixtures" / "rushkit-broken"
# Name -> the words of its fault, and a command that uses it.
FAULTS = {
    "broken-import": (["ImportError", "libnoise.so.2"], ["recipe", "check", "digits", "--set", "noise.name={}"]),
    "broken-std": (["NoDeviation has no std"], ["recipe", "check", "digits", "--set", "noise.name={}"]),
    "broken-exit": (["SystemExit"], ["data", "check", "{}"]),
    "broken-name": (["AttributeError", "not_there"], ["recipe", "check", "digits", "--set", "attack.0.type={}"]),
    "broken-raises": (
        ["RuntimeError", "no licence found"],
        ["pretrain", "--recipe", "digits", "--dry-run", "--set", "backbone.name={}"],
    ),
    "broken-number": (
        ["parts:NUMBER is no factory", "int cannot be called"],
        ["recipe", "check", "digits", "--set", "finetune.objective={}"],
    ),
    "broken-file": (["is not a file", "all.toml"], ["recipe", "show", "{}"]),
}
# Runs many commands in one process, as a shell would one after the other.
SEVERAL = """
import contextlib, io, json, sys
from rushkit.cli.app import main
found = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    found.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("broken")
    install(place / "site", shutil.copytree(FIXTURE, place / "project"))
    return place / "site"


def run_all(commands, site, cwd):
    done = python("-c", SEVERAL, json.dumps(commands), site=site, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_everything_else_works(site, tmp_path):
    commands = [["--help"], ["plugins"], ["recipe", "list"], ["recipe", "check", "digits"], ["data", "list"]]
    said = run_all(commands, site, tmp_path)
    assert [code for code, _, _ in said] == [0] * len(commands)
    assert all(name in said[1][1] for name in FAULTS)
    small = [
        "data.limit=32",
        "data.image_size=8",
        "pretrain.epochs=1",
        "pretrain.batch_size=16",
        "pretrain.knn.every=0",
    ]
    changes = [word for change in small for word in ("--set", change)]
    rushkit("pretrain", "--recipe", "digits", *changes, site=site, cwd=tmp_path)


def test_the_check_names_each_fault(site, tmp_path):
    done = python("-m", "rushkit", "plugins", "--check", "--json", site=site, cwd=tmp_path)
    assert done.returncode == 3
    problems = {row["name"]: row["problem"] for row in json.loads(done.stdout)["components"] if row["problem"]}
    assert set(problems) == set(FAULTS)
    for name, (words, _) in FAULTS.items():
        assert f"rushkit-broken/{name}" in done.stderr
        assert all(word in problems[name] for word in words), problems[name]


def test_whoever_uses_a_broken_name_is_told_why(site, tmp_path):
    commands = [[word.format(name) for word in command] for name, (_, command) in FAULTS.items()]
    for (name, (words, _)), (code, _, err) in zip(FAULTS.items(), run_all(commands, site, tmp_path), strict=True):
        assert code == 3, (name, err)
        assert err.startswith("error: "), (name, err)
        assert "rushkit-broken" in err
        assert all(word in err for word in words), (name, err)
        assert "Traceback" not in err


def test_without_plugins_nothing_is_wrong(site, tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHKIT_PLUGINS", "")
    rushkit("plugins", "--check", site=site, cwd=tmp_path)
