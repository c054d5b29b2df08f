"""The Python of the pages runs as it stands, each page from top to bottom, in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rushkit

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_blocks_run_one_after_the_other(page, tmp_path):
    found = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found
    settings = {name: value for name, value in os.environ.items() if not name.startswith("RUSHKIT_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(found)],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_on_python_names_everything_public():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    used = set(re.findall(r"\brushkit\.(\w+)", page)) | set(re.findall(r"`(\w+)`", page))
    assert set(rushkit.__all__) - {"__version__"} <= used


def test_everything_public_can_be_had():
    for name in rushkit.__all__:
        assert getattr(rushkit, name) is not None
