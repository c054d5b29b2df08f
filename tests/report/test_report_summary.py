"""Which of several measurements the sentences of the summary quote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from synthetic_runs import attack_row, attacks, audited, certification, evaluation, recipe_of

from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.page.render import markdown, page
from rushkit.report.paper import footnote
from rushkit.report.summary import beside_headline


@pytest.fixture
def said(runs):
    """``said(("evaluate", results), ...)``: the one model of these measurements, as the document has it."""
    model = runs.model()

    def document(*measured):
        for verb, results in measured:
            runs.add(verb, model, results)
        (entry,) = build_report([gather(model)]).models
        return entry

    return document


def summary_of(entry):
    return " ".join(entry.summary)


def test_of_clean_votes_that_of_the_largest_m(said):
    few = evaluation([True, False], samples=(64,))
    assert "m = 64 is right on 50.0 %" in summary_of(
        said(("evaluate", few), ("evaluate", evaluation([True] * 12, (1,))))
    )


def test_of_clean_votes_that_on_the_test_split(said):
    other = evaluation([True] * 12, samples=(64,), data="cifar10/validation")
    entry = said(("evaluate", evaluation([True, False], samples=(1,))), ("evaluate", other))
    assert "m = 1 is right on 50.0 %" in summary_of(entry)
    assert "of 2 images of cifar10/test (all of test)." in summary_of(entry)


def test_of_strict_attacks_in_one_ball_that_which_leaves_least(said):
    rows = [
        attack_row([10, 10, 0, 0]),
        attack_row([10, 0, 0, 0], attack="autoattack"),
        attack_row([10] * 4, attack="apgd"),
    ]
    assert "Under autoattack, l-inf 8/255, strict: at most 25.0 %" in summary_of(said(("attack", attacks(*rows))))


def test_of_strict_attacks_on_as_many_images_that_of_the_largest_m(said):
    rows = [attack_row([10, 0], samples=64), attack_row([0, 0], samples=1)]
    assert "strict: at most 50.0 %" in summary_of(said(("attack", attacks(*rows))))


def test_of_strict_attacks_those_on_the_test_split(said):
    rows = [attack_row([10, 10, 0, 0]), attack_row([0] * 4, split="cifar10/train")]
    text = summary_of(said(("attack", attacks(*rows))))
    assert "strict: at most 50.0 %" in text
    assert "of 4 images of cifar10/test" in text


def test_of_certificates_in_one_norm_that_of_the_most_images(said):
    many, few = certification([0.25] * 8, [True] * 8), certification([0.25] * 2, [True, False])
    text = summary_of(said(("certify", many), ("certify", few)))
    assert "100.0 %" in text
    assert "of 8 images" in text
    assert "of 2 images" not in text


def test_beside_the_headline_the_strict_figure_is_not_said_again(said):
    entry = said(("attack", attacks(attack_row([10, 10, 0, 0]), attack_row([10, 0, 0, 0], eps=0.5, norm="l2"))))
    assert "At most 50.0 %" in entry.headline.sentence
    assert "strict: at most 50.0 %" in summary_of(entry)
    beside = " ".join(beside_headline(entry))
    assert "at most 50.0 %" not in beside
    assert "Under pgd, l2 0.5, strict: at most 25.0 %" in beside


def test_beside_a_headline_of_attacks_together_the_strongest_one_is_still_named(said):
    rows = attack_row([10, 10, 0, 0]), attack_row([10, 0, 10, 0], attack="square")
    entry = said(*(("attack", attacks(row)) for row in rows))
    assert "At most 25.0 %" in entry.headline.sentence
    beside = " ".join(beside_headline(entry))
    assert "25.0 %" not in beside
    assert "Under square, l-inf 8/255, strict: at most 50.0 %" in beside


def test_beside_the_headline_no_sentence_of_it_stands_again(said):
    entry = said(("evaluate", evaluation([True, False], samples=(64,))))
    assert "a vote of m = 64 is right on 50.0 %" in entry.headline.sentence
    assert "a vote of m = 64" in summary_of(entry)
    assert "a vote of m = 64" not in " ".join(beside_headline(entry))


def test_skipped_checks_are_not_among_those_that_found_nothing(said):
    assert "fails among 2 checks; 1 more were skipped." in summary_of(
        said(("audit", audited("pass", "warn", "skipped")))
    )


def test_a_stronger_attack_is_not_flagged_within_the_error_of_the_weaker(said):
    rows = [attack_row([10] * 40 + [0] * 60), attack_row([10] * 45 + [0] * 55, attack="autoattack")]
    assert not any("stronger attack" in note for note in said(("attack", attacks(*rows))).attack_notes)


def test_an_audit_of_another_checkpoint_is_noted(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True]))
    audit = runs.add("audit", model, audited("pass"))
    facts = json.loads((audit.path / "run.json").read_text())
    facts["parent"] = f"x/{model.path.name}/checkpoints/step-000005.safetensors"
    (audit.path / "run.json").write_text(json.dumps(facts))
    (entry,) = build_report([gather(model)]).models
    assert any("several checkpoints" in note and "step-000005" in note for note in entry.notes)


def test_what_was_not_measured_is_named_with_its_command(said):
    entry = said(("evaluate", evaluation([True, False], samples=(64,))))
    run = Path(entry.run).name
    assert entry.summary[-1] == (
        f"Not measured: a strict attack (rushkit attack --from {run}); whether the attacks can be trusted "
        f"(rushkit audit --from {run}); a certificate (rushkit certify --from {run})."
    )


def test_an_attack_of_the_paper_alone_leaves_the_strict_one_to_be_measured(said):
    entry = said(("attack", attacks(attack_row([1, 0], protocol="paper"))), ("audit", audited()))
    last = entry.summary[-1]
    assert last.startswith("Not measured: accuracy without an attack (rushkit evaluate ")
    assert "; a strict attack (rushkit attack " in last
    assert "rushkit audit" not in last


def test_of_a_model_without_noise_no_certificate_is_missed(runs):
    encoder = runs.add("pretrain")
    model = runs.add("finetune", encoder, recipe=recipe_of("cifar10", "noise.name=none"))
    (entry,) = build_report([gather(model)]).models
    assert entry.summary[0] == "Nothing was measured of this model yet."
    assert "rushkit audit --from" in entry.summary[1]
    assert "certificate" not in entry.summary[1]


@pytest.mark.parametrize(
    ("shown", "terms"),
    [("<small>I_F+</small>", ["I_F+"]), ("I_F, EOT", ["I_F", "EOT"]), ("fails under EOT", ["EOT"]), ("HI_FI", [])],
)
def test_a_footnote_explains_the_terms_that_appear(shown, terms):
    assert re.findall(r"(?:^|; )(\S+): ", footnote(shown)) == terms


def test_table_1_explains_its_terms_in_html_and_markdown(measured):
    document = build_document(build_report([gather(measured)]))
    assert "I_F+: the paper&#39;s majority vote of 64 draws; EOT: expectation over" in page(document, "report.json")
    assert "\n\nI\\_F: the paper's prediction" in markdown(document, "report.html")
    assert "; EOT: expectation over transformation" in markdown(document, "report.html")


def test_the_sentence_on_an_audit_carries_its_hit_rate(said, monkeypatch):
    monkeypatch.setattr(
        "rushkit.report.summary.hit_rate_words",
        lambda audit: "passes 2 checks, which found 1 of 2 planted faults" if audit.images == 12 else "",
    )
    (line,) = [line for line in said(("audit", audited("pass", "pass", "skipped"))).summary if "audit (m" in line]
    assert "passes 2 checks, which found 1 of 2 planted faults; 1 more were skipped." in line


def test_a_failing_audit_says_how_often_it_fails_for_no_reason(said, monkeypatch):
    monkeypatch.setattr("rushkit.report.summary.hit_rate_words", lambda audit: "in the self-test 1 fails")
    (line,) = [line for line in said(("audit", audited("fail"))).summary if "audit (m" in line]
    assert line.endswith("RK101 check-0. In the self-test 1 fails.")


def test_a_refuted_claim_says_nothing_against_the_attacks(said):
    statuses = ["pass"] * 26 + ["fail"]
    lines = [line for line in said(("audit", audited(*statuses))).summary if "audit (m" in line]
    assert ["refutes a claim (RK127): " in line for line in lines] == [True, False]
    assert "found nothing else that fails among 26 checks" in lines[1]
    assert not any("doubt" in line for line in lines)


def test_a_refuted_claim_stands_beside_the_checks_that_fail(said):
    statuses = ["fail"] + ["pass"] * 25 + ["fail"]
    lines = [line for line in said(("audit", audited(*statuses))).summary if "audit (m" in line]
    assert "refutes a claim (RK127): " in lines[0]
    assert lines[1].endswith("doubt the figures under attack: RK101 check-0.")
