"""The sentence under a model's ladder, by the rules of docs/claims.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rushkit.report.figures import MeasuredAudit, Model
from rushkit.report.headlines import Gap, Headline, Rung
from rushkit.results.statements import clean_statement, images_of
from rushkit.results.words import at_most_words, listed, points
from rushkit.rounding import ceil_percent, floor_percent, percent, percent_interval

_NO_STRICT = "No attack was as strong as the strict protocol: nothing here says how robust the model is."


def sentence_of(headline: Headline, model: Model) -> str:
    """Return what may be said of a headline, in sentences: clean and attacked accuracy of the same images and m.

    ``strict`` is "at most" and a certificate "at least". ``paper`` stands beside ``strict`` alone, and with the words
    that it is not the robustness.
    """
    if not model.classifies:
        return "This is an encoder, not a classifier yet: rushkit finetune."
    return " ".join(_parts(headline, model)) or "Nothing was measured of this model yet."


def apart_words(headlines: Sequence[Headline]) -> str:
    """Return why the figures of several headlines do not compare, in a sentence; empty where they do.

    They compare if they are of the same data, ball and m. Whether two models differ is for McNemar's test to say.
    """
    rungs = [headline.strict or headline.clean or headline.certified for headline in headlines]
    measured = [rung for rung in rungs if rung is not None]
    ways = {
        "data": {rung.data for rung in measured},
        "ball": {rung.ball for rung in measured if rung.ball},
        "m": {str(rung.samples) for rung in measured},
    }
    differing = [f"{name} ({', '.join(sorted(values))})" for name, values in ways.items() if len(values) > 1]
    return f"These models were not measured alike: they differ in {listed(*differing)}." if differing else ""


def failed_checks(audit: MeasuredAudit) -> list[str]:
    """Return codes and names of the checks that speak against the attacks; that of a refuted claim does not."""
    one = audit.record
    return [
        f"{check.code} {check.name}" for check in one.checks if check.status == "fail" and check != one.refuted_claim
    ]


def gap_words(gap: Gap) -> str:
    """Return the gap in points with its interval: "+11.6 points [4.5, 18.6]"."""
    return f"{points(gap.difference)} points [{points(gap.low)}, {points(gap.high)}]"


def share_words(name: str, rung: Rung) -> str:
    """Return the share of a rung as its kind of bound is rounded: "≤ 82.4 %", "≥ 24.9 %", "95.6 %"."""
    match name:
        case "strict":
            return f"≤ {ceil_percent(rung.accuracy)} %"
        case "certified":
            return f"≥ {floor_percent(rung.accuracy)} %"
        case _:
            return f"{percent(rung.accuracy)} %"


def _parts(headline: Headline, model: Model) -> Iterator[str]:
    clean, strict, paper, gap = headline.clean, headline.strict, headline.paper, headline.gap
    if strict is not None and clean is not None:
        yield _under_attack(strict, clean)
        if paper is not None and gap is not None:
            yield _beside(paper, gap)
    elif clean is not None:
        images = images_of(clean.images, clean.data, clean.chosen)
        yield clean_statement(clean, images, clean.samples, clean.noise)
        if model.attacks:
            yield _NO_STRICT
    elif model.attacks:
        yield _NO_STRICT
    if headline.certified is not None:
        yield _proved(headline.certified)
    yield from _doubted(model)


def _under_attack(strict: Rung, clean: Rung) -> str:
    left = at_most_words(strict)
    return (
        f"{left[0].upper()}{left[1:]} of {images_of(strict.images, strict.data, strict.chosen)} stay right under "
        f"{strict.how}, {strict.ball} ({listed(f'm = {strict.samples}', strict.noise)}), against "
        f"{percent(clean.accuracy)} % of the same images clean."
        f"{f' {strict.caveat}' if strict.caveat else ''}"
    )


def _beside(paper: Rung, gap: Gap) -> str:
    of = "of them" if paper.same_images else f"of {images_of(paper.images, paper.data, paper.chosen)}"
    return (
        f"The protocol paper leaves {percent(paper.accuracy)} % {of} ({gap_words(gap)}), which is not the robustness."
    )


def _proved(rung: Rung) -> str:
    share = f"at least {floor_percent(rung.accuracy)} % [{percent_interval(rung.low, rung.high)}]"
    # The level alone; what else must be said with a certificate stands in the summary.
    how = listed(rung.how.partition(",")[0], rung.noise)
    return (
        f"Proved ({how}): {share} of {images_of(rung.images, rung.data, rung.chosen)} keep their right class under "
        f"every perturbation up to {rung.ball}."
    )


def _doubted(model: Model) -> Iterator[str]:
    for audit in model.audit:
        if failed := failed_checks(audit):
            yield f"The audit gives reasons to doubt the figures under attack: {', '.join(failed)}."
