from __future__ import annotations

import pytest

from rushkit.report.sheets.measured import average_words


@pytest.mark.parametrize(
    ("radius", "error", "words"),
    [
        (0.14567, 0.0142, "0.145 ± 0.014 (standard error)"),
        # An l-inf radius is never rounded up, nor to nothing beside its error.
        (0.00005678, 0.0000213, "0.000056 ± 0.000021 (standard error)"),
        (1.9876, 0.234, "1.98 ± 0.23 (standard error)"),
        (0.00054139, None, "0.00054"),
        (0.3, 0.0, "0.300 ± 0.000 (standard error)"),
        (0.0, None, "0.000"),
        (0.0, 0.0, "0.000 ± 0.000 (standard error)"),
    ],
)
def test_an_average_radius_has_two_digits_of_its_error(radius, error, words):
    assert average_words(radius, error) == words
