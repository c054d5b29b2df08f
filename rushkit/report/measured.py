"""Choose between runs of the same measurement: the most images first, then the newest, or the lowest strict attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath

from rushkit.recipe.schema import Recipe
from rushkit.report.against_passes import against_passes
from rushkit.report.breakdown import ClassAccuracy, PassesSeries, PerClass
from rushkit.report.chosen import chosen_to_attack, chosen_to_evaluate
from rushkit.report.classes import classes_of_matrix, classes_under_attack
from rushkit.report.curves import distribution
from rushkit.report.distances import MeasuredDistances, distances_of_run, latest_distances
from rushkit.report.families import Family, recipe_of_run
from rushkit.report.figures import (
    AccuracyRow,
    AttackedShare,
    Confusion,
    EpsPoint,
    EpsSeries,
    MeasuredAttack,
    MeasuredProbe,
    MeasuredShare,
    ReportedRow,
    Table1Row,
)
from rushkit.report.paper import EPS, NORM, RUSH, STRATEGIES, finetuned, method_of, reported
from rushkit.report.protocols import (
    attacks_of,
    protocol_words,
    search_words,
    settings_words,
    targeted_of,
    unusual_words,
)
from rushkit.report.quotable import on_test
from rushkit.report.taken import TakenUnderAttack, taken_under_attack
from rushkit.report.threats import (
    MeasuredCorruptions,
    MeasuredShifts,
    MeasuredUnion,
    corruptions_of_run,
    latest,
    latest_unions,
    shifts_of_run,
    unions_of_run,
)
from rushkit.results.attacks import Attacks
from rushkit.results.evaluation import Evaluation, Probe
from rushkit.results.intervals import mean_interval
from rushkit.results.published import PublishedRow
from rushkit.results.training import Finetuning, Pretraining
from rushkit.results.words import Accuracy, low_words, plain_noise
from rushkit.robustness.deviations import PUBLISHED, WEAKER

# The protocols that Table 1 has columns for.
COLUMN_PROTOCOLS = ("paper", "strict")
# The attacks that it has columns for.
_COLUMNS = ("pgd", "autoattack")


def accuracy_rows(family: Family) -> list[AccuracyRow]:
    """Return standard accuracy for each data set, noise, m and rule, from the newest run on the most images."""
    newest: dict[object, AccuracyRow] = {}
    for run, results in family.results(Evaluation):
        chosen = chosen_to_evaluate(results, recipe_of_run(run))
        for row in accuracy_of(run.path.name, results, chosen):
            key = (row.data, _frozen(row.noise), row.samples, row.rule)
            if key not in newest or row.images >= newest[key].images:
                # Taken out first, so that rows come in the order of the newest run.
                newest.pop(key, None)
                newest[key] = row
    return list(newest.values())


def accuracy_of(run: str, results: Evaluation, chosen: str = "") -> list[AccuracyRow]:
    """Return the rows of one run's evaluation, on images that were chosen so."""
    noise = plain_noise(results.noise)
    return [
        AccuracyRow(
            *(run, results.data, noise, row.samples, row.rule, row.correct, row.images, *_share_of(row)),
            precision=results.precision,
            chosen=chosen,
        )
        for row in results.accuracy
    ]


def attack_rows(family: Family) -> list[MeasuredAttack]:
    """Return every attack, ball, protocol and m on each split, by attack and eps; one run's row where several have it.

    Rows of another version or effort of a protocol are rows of their own.

    It comes from a run with the most images. Of those on the same images as the newest such run, strict takes the one
    that leaves least, for every run is an upper bound of the robustness; paper takes the newest at the paper's own
    settings, if any is. Rows that are weaker than strict, and published attacks, are kept apart by their settings.
    ``chosen_from`` counts the runs on these images.
    """
    return _rows_of(family, attacks_of)


def every_attack(family: Family) -> list[MeasuredAttack]:
    """Return the rows of all attacks of all runs, oldest first; ``attack_rows`` has one of each kind."""
    return list(_every(family, attacks_of))


def targeted_rows(family: Family) -> list[MeasuredAttack]:
    """Return every attack towards a class, chosen as ``attack_rows`` chooses: strict takes the one that leads most."""
    return _rows_of(family, targeted_of)


def distance_rows(family: Family) -> list[MeasuredDistances]:
    """Return the smallest distances that attacks found: one row of each kind, as ``latest_distances`` chooses."""
    runs = family.results(Attacks)
    return latest_distances(row for run, results in runs for row in distances_of_run(run.path.name, results))


def union_rows(family: Family) -> list[MeasuredUnion]:
    """Return what attacks in balls of different norms leave together: a row for each noise, balls, protocol and m."""
    runs = family.results(Attacks)
    return latest_unions(union for run, results in runs for union in unions_of_run(run.path.name, results))


def corruption_rows(family: Family) -> list[MeasuredCorruptions]:
    """Return the newest measurement under corruptions on the most images, for each data set and noise."""
    runs = family.results(Evaluation)
    return latest(one for run, results in runs for one in corruptions_of_run(run.path.name, results))


def shift_rows(family: Family) -> list[MeasuredShifts]:
    """Return the newest search of rotations and translations on the most images, for each data set and noise."""
    runs = family.results(Evaluation)
    return latest(one for run, results in runs for one in shifts_of_run(run.path.name, results))


def probes(family: Family) -> list[MeasuredProbe]:
    """Return the newest probe of each ball, with the distribution of each encoder's ratio over the images."""
    newest: dict[object, MeasuredProbe] = {}
    for run, results in family.results(Probe):
        curves = tuple(distribution(results.outcomes[f"{row.encoder} {row.points}"]) for row in results.rows)
        newest[results.data, results.norm, results.eps] = MeasuredProbe(run.path.name, results, curves)
    return list(newest.values())


def table_1(family: Family, pretraining: Recipe | None, finetuning: Recipe | None) -> list[Table1Row]:
    """Return the model's rows of the paper's Table 1: one for each data set, noise and m, the largest m first.

    Only the test split counts, and of the attacks those within l-inf 8/255. What is weaker than strict has no place.
    """
    accuracy = {_key(row.data, row.noise, row.samples): row for row in _clean_rows(family)}
    attacks = [row for row in attack_rows(family) if row.record.attack in _COLUMNS and _in_the_papers_ball(row)]
    under: dict[tuple[str, str, int], list[MeasuredAttack]] = {}
    for attack in attacks:
        under.setdefault(_key(attack.data, attack.noise, attack.record.samples), []).append(attack)
    source, extra_data = pretraining or finetuning, _extra_data(family, pretraining, finetuning)
    method = method_of(pretraining, finetuning, family.from_scratch)
    tuned = "" if finetuning is None else finetuned(finetuning)
    rows = []
    for key in sorted({*accuracy, *under}, key=lambda key: (key[0], key[1], -key[2])):
        data, _, samples = key
        clean = accuracy.get(key)
        noise = (clean or under[key][-1]).noise
        # A method has one noise: a figure under another noise than the model's has no published one beside it.
        of_the_model = finetuning is None or plain_noise(finetuning.noise) == noise
        paper = reported(method, (source.data.name, data), tuned, samples) if source and of_the_model else None
        cells = {name: _cells(under.get(key, []), name) for name in _COLUMNS}
        rows.append(
            Table1Row(
                data=data,
                noise=noise,
                samples=samples,
                strategy=STRATEGIES.get(samples) if method == RUSH and of_the_model else None,
                reported=None if paper is None else _reported(paper),
                extra_data=extra_data,
                standard=_clean_share(clean) if clean else None,
                pgd=cells["pgd"],
                autoattack=cells["autoattack"],
            )
        )
    return rows


def _reported(row: PublishedRow) -> ReportedRow:
    shares = row.standard, row.pgd, row.autoattack
    about = row.network, row.protocol, row.extra_data, row.what, row.source
    return ReportedRow(row.method, row.finetuning, row.table_1, *shares, *about)


def _extra_data(family: Family, pretraining: Recipe | None, finetuning: Recipe | None) -> str:
    """Return in words what a model was trained on beside its data set, as far as its recipes and its labels say it."""
    extra = finetuning.finetune.extra.path if finetuning is not None else ""
    recipes = [recipe for recipe in (pretraining, finetuning) if recipe is not None]
    parts = [f"extra images of {PurePath(extra).name}"] if extra else []
    if any(recipe.backbone.options.get("pretrained") for recipe in recipes):
        parts.append("pretrained weights")
    labels = [results.labels for _, results in family.results(Pretraining)]
    labels += [results.labels for _, results in family.results(Finetuning)]
    outside = {used.outside for used in labels if used is not None}
    parts += [f"pseudo-labels ({words})" for words in sorted(outside - {""})]
    return ", ".join(parts)


def against_eps(rows: Sequence[MeasuredAttack]) -> list[EpsSeries]:
    """Return robust accuracy as a function of eps: a series where an attack was run at two radii or more.

    The first point, at eps 0, is that of the images as they are, where the smallest radius was attacked.
    """
    series: dict[object, list[MeasuredAttack]] = {}
    for row in rows:
        about = row.record
        named = (about.attack, about.norm, protocol_words(about), about.samples)
        series.setdefault((row.data, about.split, _frozen(row.noise), *named), []).append(row)
    return [_eps_series(sorted(rows, key=lambda row: row.record.eps)) for rows in series.values() if len(rows) > 1]


def passes(rows: Sequence[MeasuredAttack]) -> list[PassesSeries]:
    """Return robust accuracy against passes, of every attack that is a cascade."""
    found = (against_passes(row.run, row.data, row.noise, row.record, settings_words(row.record)) for row in rows)
    return [series for series in found if series is not None]


def per_class(matrix: Confusion | None, rows: Sequence[MeasuredAttack]) -> list[PerClass]:
    """Return the accuracy of each class: under the strict attack that one asks about first, else without an attack.

    That is one of the test split if any is, in the paper's ball if any is, and of these on the most images, as for the
    headline; then of the largest m, and the one that leaves least.
    """
    strict = [row for row in rows if row.record.protocol == "strict"]
    if strict:
        row = min(strict, key=_asked_first)
        about = row.record
        named = matrix is not None and matrix.data.partition("/")[0] == about.split.partition("/")[0]
        names = matrix.classes if matrix is not None and named else ()
        words = f"{about.in_ball()} {protocol_words(about)}"
        classes = classes_under_attack(about, names)
        return [PerClass(row.run, about.split, row.noise, about.samples, words, classes, _absent(classes, names))]
    if matrix is None:
        return []
    classes = classes_of_matrix(matrix.counts, matrix.classes)
    absent = _absent(classes, matrix.classes)
    return [PerClass(matrix.run, matrix.data, matrix.noise, matrix.samples, "", classes, absent)]


def _absent(classes: Sequence[ClassAccuracy], names: Sequence[str]) -> tuple[str, ...]:
    present = {row.name for row in classes}
    return tuple(name for name in names if name not in present)


def taken_for(family: Family, rows: Sequence[MeasuredAttack]) -> TakenUnderAttack | None:
    """Return what images are taken for under the strict attack of ``per_class``; None without a strict one."""
    strict = [row for row in rows if row.record.protocol == "strict"]
    if not strict:
        return None
    row = min(strict, key=_asked_first)
    classes = next(results.classes for run, results in family.results(Attacks) if run.path.name == row.run)
    words = f"{row.record.in_ball()} {protocol_words(row.record)}"
    return taken_under_attack(row.run, row.noise, row.record, words, classes)


def _asked_first(row: MeasuredAttack) -> tuple[bool, bool, int, int, float]:
    one = row.record
    return not on_test(one.split), not _in_the_papers_ball(row), -one.images, -one.samples, row.majority.accuracy


def confusion(family: Family) -> Confusion | None:
    """Return the confusion matrix of the newest evaluation on the most images, by the vote of its largest m."""
    evaluations = sorted(family.results(Evaluation), key=lambda pair: len(pair[1].outcomes.labels))
    for run, results in reversed(evaluations):
        predicted = results.outcomes.predicted
        samples = max(predicted, key=int)
        votes = predicted[samples].get("majority")
        if votes is None:
            continue
        row = next(row for row in results.accuracy if row.samples == int(samples) and row.rule == "majority")
        classes = list(row.per_class)
        labels = results.outcomes.labels
        size = max([len(classes) - 1, *labels, *votes]) + 1
        # Two classes of one name are one key in per_class: then numbers tell them apart.
        names = classes if len(classes) == size else [str(index) for index in range(size)]
        counts = [[0] * size for _ in range(size)]
        for label, vote in zip(labels, votes, strict=True):
            counts[label][vote] += 1
        about = run.path.name, results.data, plain_noise(results.noise)
        return Confusion(*about, int(samples), names, counts, results.precision)
    return None


def checkpoints_used(family: Family) -> dict[str, list[str]]:
    """Return file name of the model's checkpoint -> the runs that measured it."""
    used: dict[str, list[str]] = {}
    for run in family.of("evaluate", "attack", "audit", "certify"):
        parent = run.about.parent
        if parent is not None and parent.endswith(".safetensors"):
            used.setdefault(parent.replace("\\", "/").rpartition("/")[2], []).append(run.path.name)
    return used


def _share_of(row: Accuracy) -> tuple[float, float, float]:
    return row.accuracy, row.low, row.high


def _clean_rows(family: Family) -> Iterator[AccuracyRow]:
    return (row for row in accuracy_rows(family) if row.rule == "majority" and on_test(row.data))


def _in_the_papers_ball(row: MeasuredAttack) -> bool:
    about = row.record
    return about.norm == NORM and abs(about.eps - EPS) < 1e-9 and on_test(about.split)


def _key(data: str, noise: dict[str, object], samples: int) -> tuple[str, str, int]:
    # An evaluation names its split, an attack the data set alone.
    return data.partition("/")[0], _frozen(noise), samples


def _cells(rows: Sequence[MeasuredAttack], attack: str) -> dict[str, AttackedShare | None]:
    """Return protocol -> what an attack leaves; of several versions or efforts, by the newest of the most images."""
    cells: dict[str, AttackedShare | None] = {}
    for protocol in COLUMN_PROTOCOLS:
        alike = [row for row in rows if row.record.attack == attack and row.record.protocol == protocol]
        best = max(alike, key=lambda row: (row.record.version, row.record.images, row.record.effort), default=None)
        cells[protocol] = None if best is None else _share(best)
    return cells


def _share(row: MeasuredAttack) -> AttackedShare:
    about = row.record
    settings = "; ".join(filter(None, (unusual_words(about), search_words(about))))
    return AttackedShare(*_share_of(row.majority), about.images, row.run, settings, row.chosen_from)


def _clean_share(row: AccuracyRow) -> MeasuredShare:
    return MeasuredShare(*_share_of(row), row.images, row.run, low_words(row.precision))


def _rows_of(family: Family, rows_of_run: Callable[[str, Attacks], list[MeasuredAttack]]) -> list[MeasuredAttack]:
    """Return one row for each kind of attack, of those that ``rows_of_run`` finds in the runs."""
    rows: dict[object, list[MeasuredAttack]] = {}
    for attacked in _every(family, rows_of_run):
        row = attacked.record
        settings = settings_words(row) if row.protocol in (WEAKER, PUBLISHED) else ""
        target = row.target.name if row.target else ""
        variant = row.protocol, row.version, row.effort
        kind = (row.attack, row.norm, row.eps, target, *variant, settings, row.samples, row.split)
        rows.setdefault((attacked.data, _frozen(attacked.noise), *kind), []).append(attacked)
    return sorted((_representative(rows[key]) for key in sorted(rows, key=str)), key=_order)


def _every(family: Family, rows_of_run: Callable[[str, Attacks], list[MeasuredAttack]]) -> Iterator[MeasuredAttack]:
    """Yield the rows that ``rows_of_run`` finds in the runs, oldest first, with how their images were chosen."""
    for run, results in family.results(Attacks):
        recipe = recipe_of_run(run)
        for attacked in rows_of_run(run.path.name, results):
            yield replace(attacked, chosen=chosen_to_attack(attacked.record, recipe))


def _representative(rows: Sequence[MeasuredAttack]) -> MeasuredAttack:
    """Return the row that stands for all of one attack, of which the oldest comes first; as ``attack_rows`` says."""
    if rows[0].record.protocol == "paper":
        # One that reproduces the paper, where there is any.
        rows = [row for row in rows if not row.record.deviations] or rows
    most = max(row.record.images for row in rows)
    newest = [row for row in rows if row.record.images == most][-1]
    same = [row for row in rows if _images(row) == _images(newest)]
    if newest.record.protocol == "strict":
        # Of equals the newest.
        newest = min(reversed(same), key=lambda row: row.majority.accuracy)
    return replace(newest, chosen_from=len({row.run for row in same}))


def _images(row: MeasuredAttack) -> tuple[list[int], list[int]]:
    # An index alone names no image: a limit changes their order.
    return row.record.outcomes.images, row.record.outcomes.labels


def _eps_series(rows: Sequence[MeasuredAttack]) -> EpsSeries:
    """Return the series of an attack's rows, which are in the order of eps."""
    first = rows[0]
    points = [_eps_point(row.record.eps, _share(row)) for row in rows]
    if first.record.eps > 0:
        clean, images = first.majority.clean_accuracy, first.record.images
        low, high = mean_interval(clean * images, images)
        share = points[0]
        points.insert(0, EpsPoint(0.0, clean, low, high, share.images, share.run, share.chosen_from, share.settings))
    about = first.record
    variant = about.protocol, about.version, about.effort
    named = (first.data, about.split, first.noise, about.attack, about.norm, *variant, about.samples)
    return EpsSeries(*named, settings_words(about), tuple(points))


def _eps_point(eps: float, share: AttackedShare) -> EpsPoint:
    return EpsPoint(eps, *_share_of(share), share.images, share.run, share.chosen_from, share.settings)


def _order(row: MeasuredAttack) -> tuple[object, ...]:
    about = row.record
    return (row.data, about.split, str(row.noise), about.attack, about.norm, about.eps, about.samples)


def _frozen(noise: dict[str, object]) -> str:
    return repr(sorted(noise.items()))
