"""Notes on figures, and checks of an audit: each has a code, so that programs need not parse sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from rushkit.results.base import Count, Record

# Codes of notes on an attack or a training, which say why its figures may not be what a reader expects.
NoteCode = Literal[
    # AutoAttack ran in its version for random models, the default on a smoothed classifier.
    "rand-version",
    # The attack saw one panel of draws in place of the random model.
    "one-panel",
    # Strict left out the DLR loss, because there are too few classes.
    "no-dlr",
    # All steps together cannot reach the surface of the ball.
    "short-steps",
    # The versions found in a smaller ball were tried first.
    "smaller-ball",
    # The images were resized, so radii refer to the resized pixels.
    "resized",
    # A loss that needs more classes than there are was replaced.
    "loss-replaced",
    # The attack returned images outside its ball, which were projected back.
    "projected",
    # bf16 was asked for on a device without units for it, so attacks search in float32.
    "no-bf16-units",
    # The network is random by itself, and was taken for a fixed one.
    "random-by-itself",
    # The gradient of some images was NaN or infinite: their climbs ended there.
    "gradient-not-finite",
    # The gradient of some images was zero at every step, so that no climb moved them.
    "gradient-zero",
    # The model returns probabilities, of which the losses take a softmax again.
    "outputs-are-probabilities",
    # The gradient of some images was zero before any attack.
    "slopes-zero",
    # The logits of some images were NaN or infinite at every query of a search.
    "logits-not-finite",
    # The gradients were those of a stand-in, in place of the model's own or of what stands before it.
    "surrogate",
    # How the stand-in answers clean images, and whether what fools it fools the model.
    "surrogate-compared",
    # The stand-in answers fewer than 90 % of clean images as the model does.
    "surrogate-disagrees",
    # The stand-in is random where the model is not, or answers an image by the images beside it.
    "surrogate-behaves",
    # The slope of the stand-in is zero at most pixels of clean images.
    "surrogate-flat",
    # What an attack of the user's own returned lay outside the ball or the box, and was projected.
    "own-attack-outside",
    # It was NaN or infinite at some images, which keep another version.
    "own-attack-not-finite",
    # It raised an error, or returned something that is no attack's answer; the others went on.
    "own-attack-ended",
    # A pre-training has collapsed: its loss stands at that of equal projections, or its features have rank one.
    "collapsed",
    # A training ended before its last epoch, because validation images showed no gain for as long as was asked.
    "stopped-early",
    # Any other note, for example from a plugin's attack.
    "other",
]
# What notes say of the images that they name, where their code tells that.
_OF_IMAGES: Mapping[str, str] = {
    "gradient-not-finite": "the gradient was NaN or infinite",
    "gradient-zero": "the gradient was zero at every step",
    "logits-not-finite": "the logits were NaN or infinite at every query",
}
# The most images that a note lists in its text.
_NAMED = 20
Status = Literal["pass", "warn", "fail", "skipped"]


class Note(Record):
    """A note that qualifies figures.

    Attributes:
        code: Identifies the kind of note to code.
        text: The sentence that users read.
        figures: The numbers in the sentence, by name.
        images: Indices in the data set's split of the images that it names; empty if it names none.
        about: What it says of them, where the code alone does not tell; notes that say the same are one.
    """

    code: NoteCode
    text: str
    figures: dict[str, float] = Field(default_factory=dict)
    images: list[Count] = Field(default_factory=list)
    about: str = ""


def image_note(
    code: NoteCode, images: Iterable[int], about: str = "", figures: Mapping[str, float] | None = None
) -> Note:
    """Return a note that says something of images, which it names by their indices in the split.

    Args:
        code: The kind of note.
        images: The indices.
        about: What it says of them; "" where the code tells that.
        figures: How far that goes at most, by name.
    """
    indices = sorted(set(images))
    named = ", ".join(map(str, indices[:_NAMED])) + (f" and {len(indices) - _NAMED} more" if indices[_NAMED:] else "")
    words = about or _OF_IMAGES[code]
    most = "".join(f"; by at most {figure:.3g} {name}" for name, figure in (figures or {}).items())
    text = f"{words} at {len(indices)} of the images: {named}{most}"
    return Note(code=code, text=text, images=indices, about=about, figures=dict(figures or {}))


def merged(notes: Iterable[Note]) -> list[Note]:
    """Return the notes without repetitions, and those that say the same of images as one note that names them all."""
    kept: dict[object, Note] = {}
    for note in notes:
        key = (note.code, note.about) if note.images else note.text
        before = kept.get(key)
        if before is None or not note.images:
            kept.setdefault(key, note)
            continue
        figures = {name: max(figure, before.figures.get(name, figure)) for name, figure in note.figures.items()}
        kept[key] = image_note(note.code, [*before.images, *note.images], note.about, figures)
    return list(kept.values())


class Check(Record):
    """The verdict of one check of an audit.

    Attributes:
        code: A code such as ``"RK101"``, which is never reused for another check.
        name: A name such as ``"eot-not-converged"``: the problem that the check looks for.
        status: Whether the check passed, warned, failed or was skipped.
        says: One sentence that states the finding.
        figures: The numbers behind the verdict, by name.
    """

    code: str
    name: str
    status: Status
    says: str
    figures: dict[str, float]
