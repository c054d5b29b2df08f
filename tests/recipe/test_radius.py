from __future__ import annotations

import pytest

from rushkit.recipe.radius import ball_words, eps_words


@pytest.mark.parametrize(
    ("eps", "words"),
    [
        (8 / 255, "8/255"),
        (0.03137254901960784, "8/255"),
        (1 / 255, "1/255"),
        # A decimal that says all is what was written, though it may be whole grey levels too.
        (0.2, "0.2"),
        (0.5, "0.5"),
        (1.0, "1"),
        (0.0, "0"),
        (12.0, "12"),
        (0.031, "0.031"),
        (0.123456, "0.123456"),
        (8.5 / 255, "8.5/255"),
    ],
)
def test_a_radius_as_users_write_it(eps, words):
    assert eps_words(eps) == words


def test_a_ball_names_its_norm():
    assert ball_words("linf", 4 / 255) == "l-inf 4/255"
    assert ball_words("l2", 0.5) == "l2 0.5"
