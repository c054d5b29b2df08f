"""The figures of every stage as rows, and the outcomes of its images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rushkit.results.attacks import AttackRow, Attacks
from rushkit.results.auditing import Audit, AuditPoint
from rushkit.results.certification import Certification
from rushkit.results.clustering import Clustering
from rushkit.results.distances import SmallestRow
from rushkit.results.evaluation import Evaluation, Probe
from rushkit.results.imported import Imported
from rushkit.results.prediction import Prediction
from rushkit.results.rows import Row, no_images, rows_of
from rushkit.results.selftest import SelfTest
from rushkit.results.taken import TakenFor
from rushkit.results.threats import Corruptions, Shifts
from rushkit.results.training import Finetuning, Pretraining
from rushkit.results.verification import Estimate, Verification
from rushkit.results.words import noise_words, plain_noise


def _figure(name: str, value: float | None, low: float | None = None, high: float | None = None) -> Row:
    """Return the four columns that every figure has."""
    return {"figure": name, "value": value, "low": low, "high": high}


def _about(record: Evaluation | Attacks | Certification | Audit) -> Row:
    return {**_of_run(record), "data": record.data, "noise": noise_words(plain_noise(record.noise))}


def _of_run(
    record: Evaluation
    | Attacks
    | Certification
    | Audit
    | Probe
    | Pretraining
    | Finetuning
    | Clustering
    | Imported
    | Verification,
) -> Row:
    return {"stage": record.stage, "recipe": record.recipe, "run": record.run}


@rows_of.register
def _(record: Pretraining | Finetuning, per_image: bool) -> list[Row]:
    if per_image:
        raise no_images(record)
    names = ("loss", "knn_accuracy", "validation_accuracy", "validation_robust_accuracy")
    figures = {name: getattr(record, name, None) for name in names}
    if isinstance(record, Finetuning) and record.accuracy is not None:
        figures |= {"training_accuracy": record.accuracy.training, "test_accuracy": record.accuracy.test}
    about: Row = {**_of_run(record), "epochs": record.epochs}
    return [{**about, **_figure(name, value)} for name, value in figures.items() if value is not None]


@rows_of.register
def _(record: Clustering, per_image: bool) -> list[Row]:
    if per_image:
        raise no_images(record)
    about: Row = {**_of_run(record), "data": record.data, "images": record.images}
    rows: list[Row] = []
    for column in record.columns:
        of_column: Row = {**about, "clusters": column.clusters, "iterations": column.iterations}
        rows.append({**of_column, **_figure("inertia", column.inertia)})
        if column.matched is not None:
            rows.append({**of_column, **_figure("matched_accuracy", column.matched)})
    return rows


@rows_of.register
def _(record: Imported, per_image: bool) -> list[Row]:
    if per_image:
        raise no_images(record)
    clean = record.clean
    if clean is None:
        return []
    about: Row = {**_of_run(record), "data": clean.data, "images": clean.images}
    return [{**about, **_figure("accuracy", clean.accuracy, clean.low, clean.high)}]


@rows_of.register
def _(record: Evaluation, per_image: bool) -> list[Row]:
    about = _about(record)
    if per_image:
        outcomes = record.outcomes
        return [
            {**about, "m": int(m), "rule": rule, "index": index, "label": label, "predicted": guess,
             "right": guess == label}
            for m, rules in outcomes.predicted.items()
            for rule, predicted in rules.items()
            for index, label, guess in zip(outcomes.images, outcomes.labels, predicted, strict=True)
        ]  # fmt: skip
    rows: list[Row] = []
    for row in record.accuracy:
        how: Row = {**about, "m": row.samples, "rule": row.rule}
        rows.append({**how, "images": row.images, **_figure("accuracy", row.accuracy, row.low, row.high)})
        rows += [{**how, "class": name, **_figure("class_accuracy", share)} for name, share in row.per_class.items()]
    rows += ({**about, **row} for row in _corrupted(record.corruptions))
    rows += ({**about, **row} for row in _shifted(record.shifts))
    return rows


def _corrupted(measured: Corruptions | None) -> Iterator[Row]:
    for row in measured.rows if measured else ():
        how: Row = {"m": row.samples, "rule": row.rule, "images": row.images}
        where: Row = {"corruption": row.kind, "strength": row.strength}
        yield {**how, **where, **_figure("corrupted_accuracy", row.accuracy, row.low, row.high)}
    for mean in measured.means if measured else ():
        how = {"m": mean.samples, "rule": mean.rule}
        yield {**how, **_figure("mean_corrupted_accuracy", mean.accuracy, mean.low, mean.high)}
        if mean.mce is not None:
            yield {**how, **_figure("mean_corruption_error", mean.mce.value, mean.mce.low, mean.mce.high)}


def _shifted(measured: Shifts | None) -> Iterator[Row]:
    for row in measured.rows if measured else ():
        how: Row = {"m": row.samples, "rule": row.rule, "images": row.images}
        yield {**how, **_figure("worst_shift_accuracy", row.accuracy, row.low, row.high)}


@rows_of.register
def _(record: Attacks, per_image: bool) -> list[Row]:
    about, attacks = _about(record), [*record.attacks, *record.targeted]
    if per_image:
        rows = [{**about, **_attack(row), **outcome} for row in attacks for outcome in _voted(row)]
        return rows + [{**about, **_search(row), **outcome} for row in record.smallest for outcome in _broken(row)]
    rows = [{**about, **_attack(row), **figure} for row in attacks for figure in _attacked(row)]
    for union in record.unions:
        variant: Row = {"protocol": union.protocol, "version": union.version, "effort": union.effort}
        how: Row = {**about, "attack": union.ball_words(), **variant, "m": union.samples, "images": union.images}
        for rule, figures in union.rules.items():
            figure = _figure("union_robust_accuracy", figures.accuracy, figures.low, figures.high)
            rows.append({**how, "rule": rule, **figure})
    for found in record.smallest:
        for quantile in found.quantiles:
            figure = _figure("distance_quantile", quantile.distance, quantile.low, quantile.high)
            rows.append({**about, **_search(found), "quantile": quantile.share, **figure})
    return rows


def _attack(row: AttackRow) -> Row:
    """Return which attack a row is of."""
    return {
        "data": row.split,
        "attack": row.attack,
        "norm": row.norm,
        "eps": row.eps,
        "target": row.target.name if row.target else None,
        "protocol": row.protocol,
        "version": row.version,
        "effort": row.effort,
        "m": row.samples,
        "votes": row.votes,
        "images": row.images,
    }


def _attacked(row: AttackRow) -> Iterator[Row]:
    # A vote is right under a targeted attack if it does not give the target: that is no robust accuracy.
    name = "robust_accuracy" if row.target is None else "not_taken_for_target"
    for rule, figures in row.rules.items():
        yield {"rule": rule, **_figure(name, figures.accuracy, figures.low, figures.high)}
        yield {"rule": rule, **_figure("clean_accuracy", figures.clean_accuracy)}
        yield {"rule": rule, **_figure("right_in_every_vote", figures.any_failure_accuracy)}
        yield {"rule": rule, **_figure("flip_rate", figures.flip_rate)}
    if row.transfer is not None:
        for rule, figures in row.transfer.rules.items():
            figure = _figure("transfer_accuracy", figures.accuracy, figures.low, figures.high)
            yield {"m": row.transfer.samples, "rule": rule, "asked": row.transfer.model, **figure}
    for further in row.rescored:
        for rule, figures in further.rules.items():
            figure = _figure("rescored_accuracy", figures.accuracy, figures.low, figures.high)
            yield {"m": further.samples, "rule": rule, **figure}


def _voted(row: AttackRow) -> Iterator[Row]:
    outcomes = row.outcomes
    for rule, right in outcomes.right.items():
        taken = [_taken("", outcomes.taken_for.get(rule)), _taken("clean_", outcomes.clean_taken_for.get(rule))]
        columns = zip(
            outcomes.indices, outcomes.labels, outcomes.chosen, right, outcomes.clean_right[rule], strict=True
        )
        for place, (index, label, chosen, votes, clean) in enumerate(columns):
            # The candidates of a row that somebody else wrote may be fewer than it chose from.
            name = row.candidates[chosen].label if 0 <= chosen < len(row.candidates) else "clean"
            kept: Row = {"index": index, "label": label, "kept": name}
            counted: Row = {"right_votes": votes, "clean_right_votes": clean}
            said: Row = {key: values[place] for one in taken for key, values in one.items()}
            yield {"rule": rule, **kept, **counted, **said}


def _taken(prefix: str, taken: TakenFor | None) -> Mapping[str, list[int]]:
    """Return the columns of the class that each image is taken for, and of the votes for it."""
    if taken is None:
        return {}
    return {f"{prefix}taken_for": taken.classes, f"{prefix}taken_for_votes": taken.votes}


def _search(row: SmallestRow) -> Row:
    """Return which search for smallest distances a row is of."""
    return {
        "data": row.split,
        "attack": row.attack,
        "norm": row.norm,
        "eps": row.eps,
        "target": row.target or None,
        "protocol": row.protocol,
        "version": row.version,
        "effort": row.effort,
        "m": row.samples,
        "images": row.images,
    }


def _broken(row: SmallestRow) -> Iterator[Row]:
    outcomes = row.outcomes
    columns = zip(outcomes.indices, outcomes.labels, outcomes.distance, outcomes.held, strict=True)
    for index, label, distance, held in columns:
        yield {"index": index, "label": label, "distance": distance, "held": held}


@rows_of.register
def _(record: Certification, per_image: bool) -> list[Row]:
    about: Row = {**_about(record), "norm": record.norm, "rule": record.rule, "alpha": record.alpha}
    about["samples"] = record.samples
    if per_image:
        return [{**about, **row} for row in _certified(record)]
    about["images"] = record.images
    rows: list[Row] = []
    for row in record.certified:
        at: Row = {**about, "radius": row.radius}
        rows.append({**at, **_figure("certified_accuracy", row.value, row.low, row.high)})
        rows.append({**at, **_figure("proved_together", row.proved_value)})
    rates = {"accuracy": record.accuracy, "smoothed_accuracy": record.smoothed, "abstained": record.abstained}
    rows += [{**about, **_figure(name, rate.value, rate.low, rate.high)} for name, rate in rates.items()]
    return [*rows, {**about, **_figure("average_radius", record.average_radius)}]


def _certified(record: Certification) -> Iterator[Row]:
    found = record.outcomes
    columns = (found.images, found.labels, found.predicted, found.p_lower, found.p_upper, found.radius)
    for index, label, predicted, lower, upper, radius in zip(*columns, strict=True):
        abstained = predicted < 0
        guess: Row = {"predicted": None if abstained else predicted, "abstained": abstained}
        yield {
            "index": index, "label": label, **guess, "right": predicted == label, "p_lower": lower, "p_upper": upper,
            "radius": radius,
        }  # fmt: skip


@rows_of.register
def _(record: Prediction, per_image: bool) -> list[Row]:
    # A prediction is about single images alone.
    return [
        {
            "image": row.image,
            "class": row.predicted,
            "index": row.index,
            "abstained": row.abstained,
            "top": row.top,
            "p_lower": row.p_lower,
            "p_upper": row.p_upper,
            "norm": record.norm,
            "radius": row.radius,
        }
        for row in record.predictions
    ]


@rows_of.register
def _(record: Audit, per_image: bool) -> list[Row]:
    settings = record.settings
    about: Row = {**_about(record), "norm": settings.norm, "eps": settings.eps, "m": record.samples}
    points = _points(record)
    if per_image:
        return [
            {**about, "attack": point.label, "position": position, "right_share": share}
            for point in points
            if len(point.share) == len(record.attacked)
            for position, share in zip(record.attacked, point.share, strict=True)
        ]
    rows: list[Row] = [
        {**about, "images": len(point.share), "attack": point.label, **_figure("accuracy_under_attack", point.accuracy)}
        for point in points
    ]
    return rows + [
        {**about, **_figure("check", None), "code": check.code, "check": check.name, "status": check.status}
        for check in record.checks
    ]


def _points(record: Audit) -> Sequence[AuditPoint]:
    """Return every attack of an audit, each once."""
    single = [value for value in vars(record.attacks).values() if isinstance(value, AuditPoint)]
    several = [*record.attacks.targeted, *record.attacks.minimum_norm]
    sweeps = record.sweeps
    swept = [*sweeps.steps, *sweeps.eot, *sweeps.eps, *sweeps.losses]
    return list({(point.label, point.value): point for point in (*single, *several, *swept)}.values())


@rows_of.register
def _(record: SelfTest, per_image: bool) -> list[Row]:
    if per_image:
        raise no_images(record)
    rows: list[Row] = []
    for case in record.cases:
        about: Row = {"stage": record.stage, "run": record.run, "case": case.name, "kind": case.kind}
        about |= {"held_out": case.held_out, "norm": case.norm, "eps": case.eps, "counts": case.counts}
        about |= {"caught": case.caught, "failed": " ".join(case.failed), "warned": " ".join(case.warned)}
        shares = {"clean_accuracy": case.clean, "claimed": case.claimed, "adaptive": case.adaptive, "left": case.left}
        rows += [{**about, **_figure(name, share)} for name, share in shares.items() if share is not None]
    return rows


@rows_of.register
def _(record: Probe, per_image: bool) -> list[Row]:
    ball: Row = {"norm": record.norm, "eps": record.eps}
    about: Row = {**_of_run(record), "data": record.data, **ball}
    if per_image:
        return [
            {**about, "measured": name, "position": position, "ratio": ratio}
            for name, ratios in record.outcomes.items()
            for position, ratio in enumerate(ratios)
        ]
    rows: list[Row] = []
    for row in record.rows:
        how: Row = {**about, "encoder": row.encoder, "points": row.points, "images": row.images}
        rows.append({**how, **_figure("lipschitz_ratio", row.mean, row.low, row.high)})
        rows.append({**how, **_figure("largest_lipschitz_ratio", row.largest)})
    return rows


@rows_of.register
def _(record: Verification, per_image: bool) -> list[Row]:
    if per_image:
        raise no_images(record)
    rows: list[Row] = []
    for attack in record.attacks:
        about: Row = {**_of_run(record), "part": attack.attack, "verdict": attack.verdict, "data": attack.split}
        about |= {"norm": attack.norm, "eps": attack.eps, "images": attack.images}
        told: dict[str, Estimate | None] = {
            "claimed_robust_accuracy": attack.claimed,
            "claimed_clean_accuracy": attack.claimed_clean,
            "robust_accuracy": attack.here,
            "clean_accuracy": attack.here_clean,
        }
        rows += [
            {**about, "votes": one.votes, **_figure(name, one.accuracy, one.low, one.high)}
            for name, one in told.items()
            if one is not None
        ]
    for proved in record.certificates:
        part: Row = {**_of_run(record), "part": "certificates", "verdict": proved.verdict, "data": proved.data}
        failed = sum(check.status == "fail" for check in proved.checks)
        rows.append({**part, "norm": proved.norm, "images": proved.images, **_figure("checks_failed", failed)})
    return rows
