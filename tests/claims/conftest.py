from __future__ import annotations

from collections.abc import Iterator

import pytest
from claimed import FIXED, RANDOM, Claim, make_claim
from nearest_mean import pixels_backbone


@pytest.fixture(scope="session", autouse=True)
def named_backbone() -> Iterator[None]:
    with pixels_backbone():
        yield


@pytest.fixture(scope="session")
def fixed(tmp_path_factory) -> Claim:
    """The claim of a model without noise."""
    return make_claim(tmp_path_factory.mktemp("fixed"), *FIXED)


@pytest.fixture(scope="session")
def random(tmp_path_factory) -> Claim:
    """The claim of a smoothed model, by ten votes of two draws."""
    return make_claim(tmp_path_factory.mktemp("random"), *RANDOM)
