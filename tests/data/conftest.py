from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache of its own, and none goes to the network by accident."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RUSHKIT_CACHE", str(folder))
    monkeypatch.setenv("RUSHKIT_OFFLINE", "1")
    return folder
