from pathlib import Path

import pytest
from stage_fixtures import at_step, tiny, toy_backbone, untouched_global_state

__all__ = ["at_step", "tiny", "toy_backbone", "untouched_global_state"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
