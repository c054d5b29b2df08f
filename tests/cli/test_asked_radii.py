"""A radius that was asked for is the same number, as it was asked for, in every table, page and file."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from commands import only, sets

from rushkit.recipe.radius import eps_words
from rushkit.rounding import as_asked

# What --radius is given -> how people read it, and how a file has it.
ASKED = {
    "0": ("0", "0"),
    "1e-7": ("0.0000001", "0.0000001"),
    "1/255": ("1/255", "0.00392156862745098"),
    "8/255": ("8/255", "0.03137254901960784"),
    "0.15": ("0.15", "0.15"),
    "0.3": ("0.3", "0.3"),
    # 0.1 + 0.2, which is not 0.3 and not 76.5/255.
    "0.30000000000000004": ("0.30000000000000004", "0.30000000000000004"),
    "3": ("3", "3"),
}
VALUES = {given: float(decimal) for given, (_, decimal) in ASKED.items()}
FEW = ("--norm", "l1", "--samples", "400", "--limit", "20", "-q", *sets("certify.selection=20"))


@pytest.fixture
def certified(cli, runs):
    """What the command says of all these radii, and its run."""
    said = cli("certify", *FEW, *(word for given in ASKED for word in ("--radius", given)))
    assert said.code == 0, said.err
    return said.out, only(runs, "certify")


def results_of(run: Path):
    return json.loads((run / "results.json").read_text())


def test_every_output_has_the_radii_as_they_were_asked_for(cli, certified, tmp_path):
    out, run = certified
    rows = results_of(run)["certified"]
    assert [row["radius"] for row in rows] == sorted(VALUES.values())
    shown, listed = (cli("runs", verb, *names).out for verb, names in (("show", [str(run)]), ("list", [])))
    assert cli("report", str(run), "--no-images", "--out", str(tmp_path / "page"), "-q").code == 0
    html, markdown, data = ((tmp_path / "page" / f"report.{kind}").read_text() for kind in ("html", "md", "json"))
    (certification,) = json.loads(data)["models"][0]["certified"]
    assert (
        [row["radius"] for row in certification["certified"]]
        == certification["curve"]["radius"]
        == sorted(VALUES.values())
    )
    for words, _ in ASKED.values():
        assert f" {words} │" in out
        assert f"l1 {words}: " in shown
        assert f">{words}<" in html
        assert re.search(f"<title>(?:[^<]*: )?{re.escape(words)}, ", html)
        assert f"| {words} |" in markdown
    middle = eps_words(rows[len(rows) // 2]["radius"])
    assert f"l1 {middle}," in listed
    assert any(f"up to {words};" in markdown for words, _ in ASKED.values())


def test_the_fields_reading_of_the_table_counts_every_image_that_is_certified_at_a_radius(cli, certified, runs):
    for given, radius in VALUES.items():
        said = cli("certify", "--from-counts", str(certified[1]), "--radius", given, "-q")
        assert said.code == 0, said.err
        run = only(runs, "certify")
        (row,) = results_of(run)["certified"]
        with (run / "certificates.tsv").open(newline="") as file:
            table = list(csv.DictReader(file, delimiter="\t"))
        read = [line["radius"] for line in table if line["correct"] == "1" and float(line["radius"]) >= radius]
        assert len(read) == row["count"]
        assert set(read) <= {ASKED[given][1]}
        assert row["count"] > 0 or radius >= 0.3


def test_compared_recipes_keep_the_last_digit_in_which_they_differ(cli, runs, certified):
    names = []
    for given in ("0.3", "0.30000000000000004"):
        assert cli("certify", "--from-counts", str(certified[1]), "--radius", given, "-q").code == 0
        names.append(str(only(runs, "certify")))
    said = cli("runs", "compare", *names)
    assert said.code == 0, said.err
    assert "[0.3]" in said.out
    assert "[0.30000000000000004]" in said.out


@pytest.mark.parametrize("given", ASKED)
def test_both_ways_of_writing_a_radius_mean_the_same_float(given):
    words, decimal = ASKED[given]
    assert (eps_words(VALUES[given]), as_asked(VALUES[given])) == (words, decimal)
    numerator, _, denominator = words.partition("/")
    assert float(numerator) / float(denominator or 1) == float(decimal) == VALUES[given]


@pytest.mark.parametrize("given", ["1.0000000000000002", "1.0000001"])
def test_a_radius_that_is_too_large_by_its_last_digit_is_named_with_it(fails, runs, given):
    said = fails(2, "certify", "--norm", "linf", "--radius", given)
    assert f"{given}/255" in said.err
    assert not list(runs.glob("*-certify-*"))


def test_a_terminal_of_80_columns_cuts_no_radius(cli, certified, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    said = cli("certify", "--from-counts", str(certified[1]), "--radius", "0.30000000000000004", "-q")
    assert "…" not in said.out
