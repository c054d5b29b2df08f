"""Distributions installed with pip into a folder of their own, and rushkit run with that folder on its path."""

import json
import os
import subprocess
import sys


def install(target, *projects):
    """pip install, without the network; the projects are copies, because building writes into them."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", str(target), *map(str, projects)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PIP_NO_CACHE_DIR": "1"},
    )
    assert done.returncode == 0, done.stderr


def python(*arguments, site, cwd):
    """Python in a process of its own, one thread, with ``site`` on its path."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        cwd=cwd,
        check=False,
    )


def rushkit(*arguments, site, cwd, code=0):
    """What the command says on stdout; its exit code must be ``code``."""
    done = python("-m", "rushkit", *arguments, site=site, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def run_tests(*folders, site, cwd):
    """pytest on a plugin's own tests, where warnings are errors as they are here."""
    done = python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *map(str, folders), site=site, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def components(site, cwd, owner=None):
    """(registry, name) -> row of ``rushkit plugins --check``; of one owner, where one is given."""
    rows = json.loads(rushkit("plugins", "--check", "--json", site=site, cwd=cwd))["components"]
    return {(row["registry"], row["name"]): row for row in rows if owner in (None, row["owner"])}
