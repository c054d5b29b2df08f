"""What the runs of one model measured, put together: on the most images, the newest or the lowest of strict attacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rushkit.recipe.schema import Recipe
from rushkit.report.collect import Family
from rushkit.report.curves import distribution
from rushkit.report.paper import EPS, NORM, STRATEGIES, reported
from rushkit.report.protocols import settings_words
from rushkit.report.tables import plain_noise
from rushkit.results.intervals import mean_interval
from rushkit.robustness.deviations import WEAKER
from rushkit.run.info import RunInfo

# Attack names that stand for the columns of Table 1.
COLUMNS = {"pgd": "pgd", "autoattack": "autoattack"}
# Those that Table 1 has columns for.
COLUMN_PROTOCOLS = ("paper", "strict")
# The split of Table 1, and that of attacks from when their rows did not say.
TEST = "test"


def accuracy_rows(family: Family) -> list[dict[str, Any]]:
    """Standard accuracy for each data set, noise, m and rule, from the newest of the runs with the most images."""
    rows: dict[Any, dict[str, Any]] = {}
    for run, results in results_of(family, "evaluate"):
        for row in results["accuracy"]:
            about = _about(run, results)
            kept = {key: row[key] for key in ("samples", "rule", "correct", "images", "accuracy", "low", "high")}
            key = (results["data"], _frozen(results["noise"]), row["samples"], row["rule"])
            if key not in rows or row["images"] >= rows[key]["images"]:
                # Taken out first, so that rows come in the order of the newest run.
                rows.pop(key, None)
                rows[key] = {**about, **kept}
    return list(rows.values())


def attack_rows(family: Family) -> list[dict[str, Any]]:
    """Every attack, ball, protocol and m on each split, by attack and eps; one run's row where several have it.

    It comes from a run with the most images. Of those on the same images as the newest such run, strict takes the one
    that leaves least, for every run is an upper bound of the robustness; paper takes the newest at the paper's own
    settings, if any is. Rows that are weaker than strict are kept apart by what they were told. ``chosen_from`` counts
    the runs on these images.
    """
    found: dict[Any, list[tuple[Any, dict[str, Any]]]] = {}
    for run, results in results_of(family, "attack"):
        for row in results["attacks"]:
            kept = {key: value for key, value in row.items() if key not in ("outcomes", "candidates")}
            if "transfer" in row:
                kept["transfer"] = {key: value for key, value in row["transfer"].items() if key != "outcomes"}
            fresh = {**_about(run, results), **kept, "candidates": [each["label"] for each in row["candidates"]]}
            fresh["split"] = row.get("split", f"{results['data']}/{TEST}")
            key = (results["data"], _frozen(results["noise"]), *(row[k] for k in ("attack", "norm", "eps")))
            told = settings_words(row) if row["protocol"] == WEAKER else ""
            key = (*key, row["protocol"], told, row["samples"], fresh["split"])
            # An index alone names no image: a limit changes their order.
            images = (row["outcomes"]["images"], row["outcomes"]["labels"])
            found.setdefault(key, []).append((images, fresh))
    return sorted((_chosen(found[key]) for key in sorted(found, key=str)), key=_order)


def on_test(row: Mapping[str, Any]) -> bool:
    """Whether a row is about the test split; an evaluation names its split as its data."""
    return str(row.get("split", row["data"])).rpartition("/")[2] == TEST


def probes(family: Family) -> list[dict[str, Any]]:
    """The local Lipschitz ratio of each encoder, and how it is spread over the images; the newest run for each ball."""
    found: dict[Any, dict[str, Any]] = {}
    for run, results in results_of(family, "probe"):
        about = {key: results[key] for key in ("data", "images", "norm", "eps", "steps")}
        about["size"] = results.get("size", "")
        curves = {name: distribution(values) for name, values in results["outcomes"].items()}
        key = (results["data"], results["norm"], results["eps"])
        rows = [{**row, "curve": curves[f"{row['encoder']} {row['points']}"]} for row in results["rows"]]
        found[key] = {"run": run.path.name, **about, "rows": rows}
    return list(found.values())


def other_results(family: Family, known: Iterable[str]) -> list[tuple[RunInfo, dict[str, Any]]]:
    """Results of stages that a report has no section of its own for."""
    verbs = {run.verb for run in family.runs} - set(known)
    return [pair for verb in sorted(verbs) for pair in results_of(family, verb)]


def table_1(family: Family, pretraining: Recipe | None, finetuning: Recipe | None) -> list[dict[str, Any]]:
    """The model's rows of the paper's Table 1: one for each data set, noise and m, the largest m first.

    Only the test split counts.

    Each has ``reported`` (the paper's shares, or None), ``standard`` and, for the attacks of the paper under l-inf
    8/255, a cell for each protocol; None where nothing was measured. A cell has accuracy, low, high and images, and
    that of an attack ``chosen_from``, as in ``attack_rows``, and ``settings``: words for those that are not the
    protocol's own. What is weaker than strict has no cell.
    """
    accuracy = [row for row in accuracy_rows(family) if row["rule"] == "majority" and on_test(row)]
    attacks = [row for row in attack_rows(family) if row["norm"] == NORM and abs(row["eps"] - EPS) < 1e-9]
    attacks = [row for row in attacks if on_test(row)]
    keys = {_row_key(row) for row in accuracy} | {_row_key(row) for row in attacks if row["attack"] in COLUMNS}
    rows = []
    for key in sorted(keys, key=lambda key: (key[0], key[1], -key[2])):
        same = [row for row in accuracy if _row_key(row) == key]
        under = [row for row in attacks if _row_key(row) == key]
        data, _, samples = key
        first = (same or under)[-1]
        source = pretraining or finetuning
        # The paper has one noise: a figure under another than the model's own is no row of its table.
        own = finetuning is None or plain_noise(finetuning.noise.model_dump()) == first["noise"]
        paper = reported(source.data.name, data, samples) if source and own else None
        row = {
            "data": data,
            "noise": first["noise"],
            "samples": samples,
            "strategy": STRATEGIES.get(samples) if source and own else None,
            "reported": paper and {"standard": paper.standard, "pgd": paper.pgd, "autoattack": paper.autoattack},
            "standard": _cell(same[-1]) if same else None,
        }
        for column, attack in COLUMNS.items():
            found = {each["protocol"]: each for each in under if each["attack"] == attack}
            row[column] = {name: _attack_cell(found[name]) if name in found else None for name in COLUMN_PROTOCOLS}
        rows.append(row)
    return rows


def against_eps(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Robust accuracy as a function of eps: a series where an attack was run at two radii or more.

    Each series has data, split, noise, attack, norm, protocol, samples, ``settings`` (words for those that are not the
    protocol's own) and ``points`` of eps, accuracy, low, high,
    images. The first point, at eps 0, is that of the images as they are, where the smallest radius was attacked.
    """
    series: dict[Any, dict[str, Any]] = {}
    for row in rows:
        named = {key: row[key] for key in ("data", "split", "noise", "attack", "norm", "protocol", "samples")}
        named["settings"] = settings_words(row)
        one = series.setdefault(_frozen(named), {**named, "points": []})
        clean = row["rules"]["majority"]["clean_accuracy"]
        one["points"].append({"eps": row["eps"], **_attack_cell(row), "clean_accuracy": clean})
    found = [one for one in series.values() if len(one["points"]) > 1]
    for one in found:
        one["points"].sort(key=lambda point: point["eps"])
        smallest = one["points"][0]
        if smallest["eps"] > 0:
            one["points"].insert(0, _unattacked(smallest))
        for point in one["points"]:
            del point["clean_accuracy"]
    return found


def confusion(family: Family) -> dict[str, Any] | None:
    """The confusion matrix of the newest evaluation on the most images, under the majority vote of its largest m."""
    found = results_of(family, "evaluate")
    found.sort(key=lambda pair: len(pair[1]["outcomes"]["labels"]))
    for run, results in reversed(found):
        predicted = results["outcomes"]["predicted"]
        samples = max(predicted, key=int)
        votes = predicted[samples].get("majority")
        if votes is None:
            continue
        row = next(row for row in results["accuracy"] if row["samples"] == int(samples) and row["rule"] == "majority")
        classes = list(row["per_class"])
        labels = results["outcomes"]["labels"]
        size = max([len(classes) - 1, *labels, *votes]) + 1
        # Two classes of one name are one key in per_class: then numbers tell them apart.
        names = classes if len(classes) == size else [str(index) for index in range(size)]
        counts = [[0] * size for _ in range(size)]
        for label, vote in zip(labels, votes, strict=True):
            counts[label][vote] += 1
        return {**_about(run, results), "samples": int(samples), "classes": names, "counts": counts}
    return None


def checkpoints_used(family: Family) -> dict[str, list[str]]:
    """File name of the model's checkpoint -> the runs that measured it; several mean that the figures differ in it."""
    used: dict[str, list[str]] = {}
    for run in family.of("evaluate", "attack", "audit", "certify"):
        parent = run.data.get("parent")
        if isinstance(parent, str) and parent.endswith(".safetensors"):
            used.setdefault(parent.replace("\\", "/").rpartition("/")[2], []).append(run.path.name)
    return used


def results_of(family: Family, verb: str) -> list[tuple[RunInfo, dict[str, Any]]]:
    """Runs of a verb that have results, oldest first."""
    pairs = ((run, run.results()) for run in family.of(verb))
    return [(run, results) for run, results in pairs if results is not None and results.get("stage", verb) == verb]


def _about(run: RunInfo, results: Mapping[str, Any]) -> dict[str, Any]:
    return {"run": run.path.name, "data": results["data"], "noise": plain_noise(results["noise"])}


def _row_key(row: Mapping[str, Any]) -> tuple[str, str, int]:
    # An evaluation names its split, an attack the data set alone.
    return str(row["data"]).partition("/")[0], _frozen(row["noise"]), row["samples"]


def _cell(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("accuracy", "low", "high", "images", "run", "chosen_from") if key in row}


def _attack_cell(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: row[key] for key in ("images", "run", "chosen_from")}
    return {**_cell({**row["rules"]["majority"], **kept}), "settings": settings_words(row)}


def _chosen(found: Sequence[tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    """The row that stands for all, of (images, row) pairs, the oldest first; as ``attack_rows`` says."""
    if found[0][1]["protocol"] == "paper":
        # What reproduces the paper, where anything does.
        found = [pair for pair in found if not pair[1]["deviations"]] or found
    most = max(row["images"] for _, row in found)
    images, newest = [pair for pair in found if pair[1]["images"] == most][-1]
    same = [row for others, row in found if others == images]
    if newest["protocol"] == "strict":
        # Of equals the newest.
        newest = min(reversed(same), key=lambda row: row["rules"]["majority"]["accuracy"])
    return {**newest, "chosen_from": len({row["run"] for row in same})}


def _unattacked(point: Mapping[str, Any]) -> dict[str, Any]:
    """The point at eps 0 of a series that begins with ``point``."""
    clean, images = point["clean_accuracy"], point["images"]
    low, high = mean_interval(clean * images, images)
    return {**point, "eps": 0.0, "accuracy": clean, "low": low, "high": high}


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    where = (row["data"], row["split"], str(row["noise"]))
    return (*where, *(row[key] for key in ("attack", "norm", "eps", "samples")))


def _frozen(value: Any) -> str:
    return repr(sorted(value.items(), key=lambda item: item[0]) if isinstance(value, dict) else value)
