"""An audit of a model without a gradient shows the attacks that need none."""

from __future__ import annotations

import pytest
from rich.console import Console
from synthetic_runs import audited

from rushkit.report.pictures.audits import audit_charts
from rushkit.report.pictures.of_runs import draw_audit
from rushkit.report.terminal.tables import record_table
from rushkit.results.auditing import AuditAttacks, AuditPoint, AuditSweeps

NOTHING = AuditSweeps(steps=[], eot=[], eps=[], losses=[])


def point(label, right):
    return AuditPoint(label=label, value=0, accuracy=right / 9, share=[float(image < right) for image in range(9)])


@pytest.fixture
def cut():
    """Nine of twelve images were attacked."""
    attacks = AuditAttacks(random_noise=point("random noise", 9), square=point("square", 3), strongest=point("best", 3))
    return audited("fail", "skipped").model_copy(update={"sweeps": NOTHING, "attacks": attacks, "loss_curve": []})


def shown(results):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(record_table(results))
    return captured.get()


def test_the_terminal_shows_what_square_leaves(cut):
    text = shown(cut)
    assert "without a gradient Square is the attack: it leaves 33.3 % of 9" in text
    assert "under the strongest of these attacks 25.0 % of 12 images stay right" in text


def test_where_there_is_a_white_box_square_is_one_of_many(cut):
    attacks = cut.attacks.model_copy(update={"best": point("best", 5)})
    assert "Square is the attack" not in shown(cut.model_copy(update={"attacks": attacks}))


def test_the_figure_shows_the_attacks_that_ran(cut, tmp_path):
    (chart,) = audit_charts(cut)
    assert chart.rows == ("random noise", "square", "best")
    assert [y for _, y in chart.series[0].points] == pytest.approx([100, 100 / 3, 100 / 3])
    (drawn,) = draw_audit(cut, tmp_path)
    assert drawn.stat().st_size > 1000


def test_nothing_is_drawn_of_an_audit_that_measured_nothing(cut, tmp_path):
    assert draw_audit(cut.model_copy(update={"attacks": AuditAttacks()}), tmp_path) == []
