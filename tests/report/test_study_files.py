"""The files of a study's report: labels of others are text in all of them, and figures are the same."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from study_cells import report_of, table_of
from synthetic_runs import attack_row, attacks, certification, evaluation

from rushkit.errors import RushkitError
from rushkit.report.study.collect import collect
from rushkit.report.study.figures import StudyReport
from rushkit.report.study.latex import escaped
from rushkit.report.study.write import FORMATS, write_study

HOSTILE = "=1+1 \\input{/etc/passwd} $x$ <script>alert(1)</script> |a| [b](c) 100% #&_^~{}\x1b[2J\n\\end{tabular}"


def hostile_report() -> StudyReport:
    cells = {
        (HOSTILE, 0, "evaluate"): evaluation([True, False, True, True]),
        (HOSTILE, 1, "evaluate"): evaluation([True, False, True, False]),
        (HOSTILE, 0, "strict"): attacks(attack_row([10, 0, 5, 0])),
        (HOSTILE, 1, "strict"): "failed",
        (HOSTILE, 0, "certify"): certification([0.3] * 4, [True] * 4),
        ("*plain", 0, "evaluate"): evaluation([True] * 4),
        ("*plain", 0, "strict"): attacks(attack_row([10, 0, 0, 0])),
    }
    return report_of(cells)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("report")
    paths = write_study(hostile_report(), folder)
    return {path.suffix[1:]: path.read_text(encoding="utf-8") for path in paths}


def test_all_formats_are_written(files):
    assert tuple(files) == FORMATS


def test_only_the_formats_asked_for_are_written(tmp_path):
    write_study(hostile_report(), tmp_path / "new", ["tex", "csv"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["report.csv", "report.tex"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RushkitError, match="cannot write"):
        write_study(hostile_report(), tmp_path / "file")


def test_the_page_has_labels_as_text(files):
    assert "<script" not in files["html"]
    assert "&lt;script&gt;" in files["html"]


def test_markdown_has_labels_as_text(files):
    row = next(line for line in files["md"].splitlines() if line.startswith("| =1"))
    assert "<" not in row.replace("\\<", "")
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"\|", files["md"].splitlines()[4]))


def test_csv_has_no_formula_and_every_figure(files):
    rows = list(csv.DictReader(files["csv"].splitlines()))
    assert not any(
        cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values() if cell[1:2].isalpha()
    )
    assert {row["row"][:2] for row in rows} == {"'=", "*p"}
    means = [row for row in rows if row["kind"] == "mean" and row["column"] == "clean" and row["m"] == "64"]
    assert [(row["interval"], row["value"]) for row in means if row["row"].startswith("'=")] == [
        ("images", "0.625"),
        ("seeds", "0.625"),
        ("seeds and images", "0.625"),
    ]
    assert [row["state"] for row in rows if row["kind"] == "seed" and row["seed"] == "1"][-1] == "failed"


def test_every_line_of_csv_has_all_columns(files):
    assert len({len(row) for row in csv.reader(files["csv"].splitlines())}) == 1


def test_json_is_the_report(files):
    assert json.loads(files["json"]) == json.loads(json.dumps(hostile_report().plain()))


# Commands that our template writes, and signs that are spelt by a command.
OURS = {"toprule", "midrule", "bottomrule", "par", "medskip", "footnotesize", "caption", "begin", "end"}
SPELT = {"textbackslash", "textless", "textgreater", "textbar", "textasciicircum", "textasciitilde", "pm"}


def test_latex_runs_no_command_of_a_label(files):
    text = files["tex"].split("\n", 1)[1]
    assert set(re.findall(r"\\([A-Za-z]+)", text)) <= OURS | SPELT
    assert re.findall(r"\\(?:begin|end)\{(\w+)\}", text) == [
        "table",
        "tabular",
        "tabular",
        "tabular",
        "tabular",
        "table",
    ]


def test_latex_has_balanced_braces_and_as_many_cells_in_every_row(files):
    text = re.sub(r"\\[{}&%$#_\\]", "", files["tex"].split("\n", 1)[1].replace("\\\\\n", "\n"))
    assert text.count("{") == text.count("}")
    assert not set(text) & set("%#_^~`\x1b")
    for table in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in table[1].splitlines() if "&" in line]
        assert {line.count("&") + 1 for line in rows} == {len(table[0])}


def test_latex_does_not_take_a_label_for_an_option_of_the_line_before():
    assert escaped("[5cm] *") == "{[}5cm{]} {*}"


def test_latex_spells_the_signs_of_figures():
    assert escaped("69.5 ± 5.5 −1–2 σ") == r"69.5 $\pm$ 5.5 $-$1--2 $\sigma$"


def test_a_link_to_a_run_is_an_address_in_this_folder_whatever_the_folders_are_called(tmp_path):
    table = table_of({("A", 0, "evaluate"): evaluation([True])})
    ((job, done),) = table.done.items()
    folder = tmp_path / "javascript:x) <b>#"
    report = collect(replace(table, done={job: replace(done, place=str(folder))}))
    write_study(report, tmp_path, ["html", "md"])
    link = "javascript%3Ax%29%20%3Cb%3E%23"
    assert f'href="{link}"' in (tmp_path / "report.html").read_text()
    assert f"]({link})" in (tmp_path / "report.md").read_text()


def test_links_lead_from_the_report_to_the_runs(tmp_path):
    report = report_of({("A", 0, "evaluate"): evaluation([True])})
    write_study(report, tmp_path, ["html", "md"])
    (link,) = set(re.findall(r'href="([^"#]+)"', (tmp_path / "report.html").read_text()))
    assert (tmp_path / link).resolve() == Path(f"runs/job-{0:016x}").resolve()
    assert f"]({link})" in (tmp_path / "report.md").read_text()
