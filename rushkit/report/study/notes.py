"""What a reader of a study's table must know of its figures, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rushkit.report.protocols import above_paper, attack_pairs, attacks_of
from rushkit.report.study.figures import Line
from rushkit.results import Results
from rushkit.results.attacks import Attacks
from rushkit.results.certification import Certification
from rushkit.results.evaluation import Evaluation
from rushkit.results.training import Finetuning, Pretraining

# So many seeds say so little of others that it is said.
_FEW_SEEDS = 3


def notes(lines: Sequence[Line], records: Iterable[tuple[str, int, Results]]) -> list[str]:
    """Return what qualifies the figures of a table.

    Args:
        lines: The lines of the table.
        records: Row, seed and results of every job that is done.
    """
    records = list(records)
    found = [*_intervals(lines), *_images(lines), *_other_data(lines, records), *_of_records(records)]
    return list(dict.fromkeys(found))


def _intervals(lines: Sequence[Line]) -> Iterator[str]:
    numbers = {len(cell.done) for line in lines for cell in line.cells if cell and cell.mean is not None}
    if 1 in numbers:
        yield "An interval of one seed is a 95 % Wilson interval over the images; it says nothing of other seeds."
    if max(numbers, default=0) > 1:
        yield (
            "± is the standard deviation of the seeds; the interval is of 95 % over seeds and images together: another "
            "training, measured on other images, is part of what it is about."
        )
    if numbers & set(range(2, _FEW_SEEDS)):
        yield "Two seeds say little of others: Student's quantile for them is 12.7, and such intervals are wide."
    if any(cell and cell.problem for line in lines for cell in line.cells):
        yield "Where seeds were not measured alike there is no mean."


def _images(lines: Sequence[Line]) -> Iterator[str]:
    counts = {figure.images for line in lines for cell in line.cells if cell for figure in cell.done if figure.images}
    if len(counts) > 1:
        yield "Not all figures are of as many images: n says of how many."


def _other_data(lines: Sequence[Line], records: Iterable[tuple[str, int, Results]]) -> Iterator[str]:
    published = dict.fromkeys(row.data for line in lines for row in line.published)
    measured = dict.fromkeys(
        results.data.partition("/")[0] for _, _, results in records if isinstance(results, Attacks | Evaluation)
    )
    if measured and not published.keys() <= measured.keys():
        yield (
            f"Published figures are of {', '.join(published)}, measured ones of {', '.join(measured)}: they "
            "stand beside each other to compare the order of the rows, not their heights."
        )


def _of_records(records: Iterable[tuple[str, int, Results]]) -> Iterator[str]:
    for row, seed, results in records:
        match results:
            case Attacks():
                for pair in attack_pairs(attacks_of("", results)):
                    yield from (f"{row}, seed {seed}: {note}" for note in above_paper(pair))
                yield from (note.text for attack in results.attacks for note in attack.notes)
                yield from (f"{row}, seed {seed}: {failed.words()}" for failed in results.failed)
            case Certification():
                yield from (f"{row}, seed {seed}: {warning}" for warning in results.warnings)
                yield from (f"CONTRADICTION: {row}, seed {seed}: {text}" for text in results.checks.messages)
            case Pretraining() | Finetuning():
                if results.labels is not None and results.labels.outside:
                    yield f"{row}: its pseudo-labels owe to data from outside: {results.labels.outside}"
                yield from (f"{row}, seed {seed}: {note.text}" for note in results.notes)
