"""The published figures: Table 1 line by line, public figures and logs, and what the file does not accept."""

from __future__ import annotations

from itertools import pairwise

import pytest
from pydantic import ValidationError

from rushkit.report.paper import reported
from rushkit.results.published import PublishedRow, published_rows, table_1

# Method, data, m, standard / PGD / AutoAttack in percent; None for a dash.
TABLE_1 = [
    ("RUSH I_F+", "cifar10", "cifar10", 64, 87.9, 77.8, 79.5),
    ("RUSH I_F", "cifar10", "cifar10", 1, 86.4, 73.7, 74.7),
    ("RUSH I_F+", "cifar100", "cifar100", 64, 57.1, 46.6, None),
    ("RUSH I_F", "cifar100", "cifar100", 1, 55.3, 42.5, 40.2),
    ("RUSH I_F+", "cifar10", "stl10", 64, 73.7, 53.3, 55.9),
    ("RUSH I_F", "cifar10", "stl10", 1, 72.0, 49.4, 53.4),
    ("RUSH I_F+", "stl10", "stl10", 64, 76.7, 64.6, 67.0),
    ("RUSH I_F", "stl10", "stl10", 1, 75.1, 61.5, 60.2),
    ("RoCL", "cifar10", "cifar10", None, 83.7, 40.2, None),
    ("Free-m", "cifar10", "cifar10", None, 85.9, 46.8, None),
    ("AdvCL", "cifar10", "cifar10", None, 83.6, 52.7, 49.7),
    ("SmoothAdv", "cifar10", "cifar10", None, 86.2, 68.2, None),
    ("ACL", "cifar10", "cifar10", None, 82.5, 52.8, 49.3),
    ("Data AUG", "cifar10", "cifar10", None, 83.5, 59.9, 57.0),
    ("Data AUG", "cifar10", "cifar10", None, 92.2, None, 66.5),
    ("AdvCL", "cifar100", "cifar100", None, 56.7, 28.7, 24.7),
    ("Data AUG", "cifar100", "cifar100", None, 56.9, 32.0, 28.5),
    ("Data AUG", "cifar100", "cifar100", None, 63.5, None, 34.6),
    ("BYORL", "cifar10", "stl10", None, None, 24.1, None),
    ("AdvCL", "cifar10", "stl10", None, 63.5, 37.7, 34.7),
]


def percent(share):
    return None if share is None else round(100 * share, 6)


def row(key):
    return next(row for row in published_rows() if row.key == key)


def test_table_1_is_that_of_the_paper():
    shown = [
        (row.method, *row.data, row.samples, percent(row.standard), percent(row.pgd), percent(row.autoattack))
        for row in table_1()
    ]
    assert shown == TABLE_1


def test_each_row_has_a_key_of_its_own():
    keys = [row.key for row in published_rows()]
    assert len(set(keys)) == len(keys)


def test_rows_of_rush_are_found_by_data_and_m_and_no_others_are():
    found = reported("rush", ("cifar10", "cifar10"), "linear", 64)
    assert (found.standard, found.pgd, found.autoattack) == (0.879, 0.778, 0.795)
    assert reported("rush", ("cifar100", "cifar100"), "linear", 64).autoattack is None
    assert reported("rush", ("cifar10", "digits"), "linear", 64) is None
    assert reported("rush", ("cifar10", "cifar10"), "linear", 16) is None
    assert reported(None, ("cifar10", "cifar10"), "linear", 64) is None


@pytest.mark.parametrize(
    ("method", "data", "finetuned", "key"),
    [
        ("rocl", "cifar10 cifar10", "linear", "rocl-table-1"),
        # The paper's row comes first, however the model was fine-tuned: the row says what it is.
        ("advcl", "cifar10 cifar10", "linear", "advcl-table-1"),
        ("advcl", "cifar100 cifar100", "full", "advcl-cifar100-table-1"),
        ("advcl", "cifar10 stl10", "full", "advcl-stl10-table-1"),
        ("acl", "cifar10 cifar10", "full", "acl-table-1"),
        ("byorl", "cifar10 stl10", "linear", "byorl-stl10-table-1"),
        # A figure of another ball and no other is none to stand beside.
        ("byorl", "cifar10 cifar10", "linear", None),
        ("free", "cifar10 cifar10", "full", "free-table-1"),
        ("free", "cifar100 cifar100", "full", "free-8-cifar100-readme"),
        ("smoothadv", "cifar10 cifar10", "full", "smoothadv-table-1"),
        ("data-aug", "cifar10 cifar10", "full", "data-aug-ddpm-table-1"),
        ("data-aug", "cifar100 cifar100", "full", "data-aug-ddpm-cifar100-table-1"),
        ("deacl", "cifar10 cifar10", "linear", "deacl-slf"),
        ("deacl", "cifar10 cifar10", "full", "deacl-aff"),
        ("dynacl", "cifar10 cifar10", "linear", "dynacl-slf"),
        ("trades", "cifar10 cifar10", "full", "trades-readme"),
        ("pgd-at", "cifar10 cifar10", "full", "pgd-at-last"),
        ("pgd-at-awp", "cifar10 cifar10", "full", "pgd-at-awp"),
        # Certificates alone are no figures of these columns.
        ("macer", "cifar10 cifar10", "full", None),
        ("simclr", "cifar10 cifar10", "linear", None),
    ],
)
def test_each_method_has_its_row(method, data, finetuned, key):
    found = reported(method, tuple(data.split()), finetuned, 1)
    assert (found and found.key) == key


def test_where_autoattack_leaves_more_than_pgd_the_row_says_so():
    for row in table_1():
        odd = None not in (row.pgd, row.autoattack) and row.autoattack > row.pgd
        assert odd == any("AutoAttack leaves more than PGD" in note for note in row.notes), row.key


def test_figures_of_table_1_are_the_public_ones_cut_or_rounded_to_a_digit():
    public = {
        "rocl-table-1": "rocl-readme",
        "data-aug-extra-table-1": "data-aug-extra-robustbench",
        "data-aug-ddpm-cifar100-table-1": "data-aug-ddpm-cifar100-robustbench",
        "data-aug-wide-cifar100-table-1": "data-aug-wide-cifar100-robustbench",
    }
    for key, other in public.items():
        for name in ("standard", "pgd", "autoattack"):
            printed, known = getattr(row(key), name), getattr(row(other), name)
            if printed is not None and known is not None:
                assert abs(printed - known) < 0.001, (key, name)
    # The official AutoAttack is below what the paper reports for the same weights.
    assert row("data-aug-ddpm-robustbench").autoattack < row("data-aug-ddpm-table-1").autoattack


def test_the_row_of_smoothadv_is_the_certified_accuracy_of_its_log():
    log = {round(point.radius, 4): percent(point.share) for point in row("smoothadv-certified").certified}
    assert (log[0], log[round(111 / 255, 4)]) == (86.16, 68.21)
    assert percent(row("smoothadv-table-1").standard) == 86.2
    assert percent(row("smoothadv-table-1").pgd) == 68.2
    # The l2 ball of that radius contains the l-inf ball of 2/255.
    assert pytest.approx(2 / 255 * 3072**0.5, abs=1e-4) == 110.85 / 255


def test_the_average_radius_fits_the_certified_accuracy():
    """It is the area under the curve, which lies between the sums of steps from the right and from the left."""
    for one in published_rows():
        points = one.certified
        if not points:
            continue
        widths = [right.radius - left.radius for left, right in pairwise(points)]
        least = sum(width * point.share for width, point in zip(widths, points[1:], strict=True))
        # 100 000 draws without a miss at alpha 0.001 certify 3.81 sigma.
        ends = [*widths, 3.82 * one.sigma - points[-1].radius]
        most = sum(width * point.share for width, point in zip(ends, points, strict=True))
        assert least < one.acr < most, one.key


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"standard": 101}, "less than or equal to 1"),
        ({"standard": None, "pgd": None}, "has no figure"),
        ({"acr": 0.5}, "a certificate has an acr, a norm and a sigma"),
        ({"certified": [{"radius": 0, "share": 10}, {"radius": 1, "share": 20}]}, "falls as the radius grows"),
        ({"data": ["cifar10"]}, "data"),
        ({"note": "x"}, "note"),
        ({"what": ""}, "what"),
    ],
)
def test_a_row_that_says_what_cannot_be_is_refused(change, words):
    known = {
        "key": "a", "method": "b", "objective": "i", "data": ["c", "d"], "network": "e", "protocol": "f", "source": "g",
        "what": "h", "standard": 87.9, "pgd": 12,
    }  # fmt: skip
    assert PublishedRow.model_validate(known).standard == 0.879
    with pytest.raises(ValidationError, match=words):
        PublishedRow.model_validate(known | change)
