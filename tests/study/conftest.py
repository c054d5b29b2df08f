from __future__ import annotations

import pytest
from small_studies import Small
from stage_fixtures import tiny, toy_backbone
from stub_stages import STUBS

from rushkit.study import perform

__all__ = ["tiny", "toy_backbone"]


@pytest.fixture
def small(tmp_path, monkeypatch) -> Small:
    """A study of stub stages whose jobs run in this process."""
    monkeypatch.setattr(perform, "STAGES", STUBS)
    monkeypatch.setenv("STUB_LEDGER", str(tmp_path / "ledger"))
    return Small(tmp_path)
