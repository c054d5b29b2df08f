"""Charts as files: the same bytes each time, fonts inside, and no word that is read as anything but itself."""

from __future__ import annotations

import re
import zlib

import pytest
from synthetic_runs import audited, certification
from test_report_charts import chart

from rushkit.errors import RushkitError
from rushkit.report.pictures.audits import audit_charts
from rushkit.report.pictures.certificates import certification_chart
from rushkit.report.pictures.charts import Series
from rushkit.report.pictures.ladder import Ladder, LadderGap, LadderRung
from rushkit.report.pictures.ladder_plot import save_ladder
from rushkit.report.pictures.plots import encoded, figure_of, safe, save_chart, style

HOSTILE = ("$\\frac{1}{0}$", "_private", "</text><script>", "a\x1b[2J\nb", "\udcff", "漢字", "\\input{x}", "x" * 5000)


def two_lines(*names):
    return chart(*(Series(name, [(0, 1), (1, 2)], [(0, 0, 2)], colour=index) for index, name in enumerate(names)))


def texts_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_name_is_in_the_legend_as_it_is():
    names = ("$x^2$", "_private", "plain")
    with style():
        figure = figure_of([two_lines(*names)])
        assert texts_of(figure) == list(names)
        assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())
        encoded(figure, "svg")


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_hostile_words_are_drawn_as_they_are(kind, tmp_path):
    rows = chart(Series("", [(place, 1) for place in range(len(HOSTILE))], kind="points"), rows=HOSTILE)
    for number, drawn in enumerate((two_lines(*HOSTILE), rows, chart(Series("", [(0, 1)]), x_label=HOSTILE[0]))):
        (path,) = save_chart([drawn], tmp_path, f"chart{number}", (kind,))
        assert b"<script" not in path.read_bytes()


def test_a_long_name_leaves_room_for_the_picture():
    assert len(safe("x" * 5000)) < 100
    assert safe("a\nb\x1b[2J") == "a b\\x1b[2J"
    assert safe("\udcff") == "\\udcff"


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_chart_is_the_same_bytes_without_a_date(kind, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        save_chart([two_lines("a", "b")], tmp_path / name, "chart", (kind,))
    first, second = ((tmp_path / name / f"chart.{kind}").read_bytes() for name in ("first", "second"))
    assert first == second
    assert not re.search(rb"CreationDate|<dc:date>|20[23]\d-\d\d", first)


def test_a_pdf_has_its_fonts_inside(tmp_path):
    (path,) = save_chart([two_lines("a", "b")], tmp_path, "chart", ("pdf",))
    data = path.read_bytes()
    assert b"/FontFile2" in data
    assert b"/Type3" not in data


def test_a_figure_for_a_paper_has_neither_title_nor_caption(tmp_path):
    drawn = chart(Series("", [(0, 1), (1, 2)]), title="A title", caption="One.\nTwo.")
    with style():
        assert figure_of([drawn], titled=False).axes[0].get_title() == ""
        assert figure_of([drawn]).axes[0].get_title() == "A title\nOne.\nTwo."


def test_rows_run_from_top_to_bottom():
    with style():
        drawn = figure_of([chart(Series("", [(0, 10), (1, 20)], kind="points"), rows=("cat", "dog"))]).axes[0]
        drawn.figure.canvas.draw()
        assert [label.get_text() for label in drawn.get_yticklabels()] == ["cat", "dog"]
        assert drawn.transData.transform((0, 0))[1] > drawn.transData.transform((0, 1))[1]


def test_a_step_curve_holds_its_value_from_just_after_the_point_before():
    with style():
        (line,) = figure_of([chart(Series("", [(0, 3), (1, 2)], kind="step"))]).axes[0].lines[:1]
    assert line.get_drawstyle() == "steps-pre"


def test_a_certification_stands_beside_its_attacks_and_the_clean_accuracy():
    drawn = certification_chart(certification([0.1, 0.3], [True, True]))
    assert [one.name for one in drawn.series] == ["certified", "together at least", "clean, smoothed"]
    assert {y for _, y in drawn.series[-1].points} == {100.0}
    assert (
        drawn.label == "Certified accuracy, l1: certified falls from 100.0 % at radius 0.000 to 0.0 % at radius 0.300"
    )


def test_an_audit_has_a_chart_for_each_sweep_and_one_of_the_loss():
    charts = audit_charts(audited("pass"))
    assert [drawn.name for drawn in charts] == [
        *("audit-gradient-steps", "audit-draws-a-gradient", "audit-eps-linf", "audit-loss"),
    ]
    assert {drawn.caption for drawn in charts[:3]} == {"n = 9."}


def test_a_file_that_cannot_be_written_is_one_message(tmp_path):
    with pytest.raises(RushkitError, match="cannot write"):
        save_chart([two_lines("a", "b")], tmp_path / "missing", "chart")


def test_streams_of_a_pdf_hold_no_version_of_the_library(tmp_path):
    (path,) = save_chart([two_lines("a", "b")], tmp_path, "chart", ("pdf",))
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.DOTALL)
    texts = [zlib.decompress(stream) for stream in streams if stream[:1] == b"x"]
    assert texts
    assert b"atplotlib" not in b"".join([path.read_bytes(), *texts])


RUNGS = (
    LadderRung("clean", "m = 64", 0.9, 0.85, 0.95, "90.0 %", "[85.0, 95.0], n = 64"),
    LadderRung("paper", "l-inf 8/255", 0.5, 0.4, 0.6, "50.0 %", "[40.0, 60.0], n = 64"),
    LadderRung("strict", "l-inf 8/255", 0.3, 0.2, 0.4, "≤ 40.0 %", "[20.0, 40.0], n = 64"),
    LadderRung("certified", "", None, None, None, "not measured", ""),
)


@pytest.mark.parametrize("gap", [None, LadderGap(0.3, 0.5, "+20.0 points", "[+9.0, +30.0]")])
def test_a_ladder_is_a_figure_with_what_is_missing_said(tmp_path, gap):
    svg, pdf = save_ladder(Ladder("$model", RUNGS, gap, "x"), tmp_path, "ladder")
    assert (svg.name, pdf.name) == ("ladder.svg", "ladder.pdf")
    assert b"/FontFile2" in pdf.read_bytes()


def test_a_ladder_of_nothing_is_a_figure(tmp_path):
    nothing = tuple(LadderRung(rung.name, "", None, None, None, "not measured", "") for rung in RUNGS)
    assert len(save_ladder(Ladder("model", nothing, None, "x"), tmp_path, "ladder")) == 2
