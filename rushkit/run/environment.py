"""Record the environment of a run: versions, the machine, and the state of the code."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import rushkit
from rushkit.results.run_file import Facts, GitState

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "safetensors")
_GIT_SECONDS = 5


def environment(folder: str | Path = ".") -> Facts:
    """Return the command line, versions, the platform, and git's state where ``folder`` lies in a repository."""
    versions = {"rushkit": rushkit.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Facts(argv=list(sys.argv), versions=versions, platform=platform.platform(), git=git_state(folder))


def git_state(folder: str | Path = ".") -> GitState | None:
    """Return git's state; None without a repository, a commit, git, or an answer within seconds."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    if not commit or changes is None:
        return None
    return GitState(commit=commit, dirty=bool(changes))


def _git(folder: str | Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            stdin=subprocess.DEVNULL,
            # A look must not take the lock that the user's own git may want.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            check=False,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
