"""Attacks of the user's own, as ``--also`` names them: called, checked, and taken for no more than images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rushkit.attacks.guard import Weights, untouched
from rushkit.attacks.norms import length, rounding, settle
from rushkit.errors import Busy, Interrupted, Replaced, UsageError, shorten
from rushkit.named_code import ALSO, consented, run_code, source_hash
from rushkit.recipe.schema import Attack
from rushkit.registrations import line_of
from rushkit.results.adaptive import OwnAttackUsed
from rushkit.results.notes import Note, NoteCode, image_note
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed

# What it is called with.
ARGUMENTS = "model, x, y, eps, norm, seed"
# The codes of notes on it; each says of which attack it is by its first words.
OUTSIDE: NoteCode = "own-attack-outside"
NOT_FINITE: NoteCode = "own-attack-not-finite"
ENDED: NoteCode = "own-attack-ended"
# What is no fault of the attack: the command is to stop, or the machine has no memory left.
_PASS = (Interrupted, Replaced, Busy, torch.OutOfMemoryError, MemoryError)


@dataclass(frozen=True)
class Versions:
    """What an attack returned for some images, within ball and box.

    Attributes:
        rows: (n,) the places of the images that it has a version of.
        x_adv: (n, C, H, W) the versions.
        notes: What a reader should know of them.
    """

    rows: Tensor
    x_adv: Tensor
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class OwnAttack:
    """An attack of the user's own.

    Attributes:
        call: ``call(model, x, y, eps, norm, seed)`` returns adversarial images of x.
        code: What messages and records call it: the file without its folder, and the name in it.
        sha256: Hash of its file; "" if it has none.
        place: The file itself, or its module.
    """

    call: Callable[..., Any]
    code: str
    sha256: str = ""
    place: str = ""

    def used(self, notes: Iterable[Note]) -> OwnAttackUsed:
        """Return what a row keeps of it, given the notes of all its blocks."""
        named: dict[str, set[int]] = {}
        for note in notes:
            if note.about.startswith(f"{self.code} "):
                named.setdefault(note.code, set()).update(note.images)
        projected, unused = named.get(OUTSIDE, set()), named.get(NOT_FINITE, set()) | named.get(ENDED, set())
        return OwnAttackUsed(code=self.code, sha256=self.sha256, projected=len(projected), unused=len(unused))

    def versions(
        self, g: SmoothedClassifier, section: Attack, x: Tensor, y: Tensor, keys: Tensor, seed: int
    ) -> Versions:
        """Call the attack on some images, and return what it found, moved into ball and box.

        It gets copies of the images and labels. An error ends it, and so does an answer that is no tensor of as many
        images, or a change of the labels or the model's weights; what it changed of the model's weights, modes, buffers
        and random state is put back.

        Args:
            g: The model under its noise: (N, C, H, W) -> (N, K) log p̄, differentiable, with draws of its own stream.
            section: Norm and eps.
            x: (N, C, H, W) images in [0, 1].
            y: (N,) labels.
            keys: (N,) indices of the images in the split, for notes.
            seed: Seeds its draws and those of the model.

        Raises:
            Interrupted: the run is to stop.
        """
        seed = derived_seed(seed, "own attack")
        none = Versions(torch.empty(0, dtype=torch.int64, device=x.device), x[:0])
        theirs, weights = y.clone(), Weights(g)
        try:
            with torch.inference_mode(False), untouched(g, seed), torch.enable_grad(), g.fresh_noise(seed):
                returned = self.call(g, x.clone(), theirs, section.eps, section.norm, seed)
        except _PASS:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises ends it alone
            said = (str(error).strip().splitlines() or [""])[0]
            where = line_of(error, Path(self.place))
            return replace(none, notes=(self._ended(f"{where}{type(error).__name__}: {said}", keys),))
        finally:
            changed = weights.put_back()
        labels = "" if torch.equal(theirs, y) else "it changed the labels"
        if why := _misfit(returned, x) or labels or ("it changed the model's weights" if changed else ""):
            return replace(none, notes=(self._ended(why, keys),))
        return self._within(returned.detach().to(x), section, x, keys)

    def _within(self, x_adv: Tensor, section: Attack, x: Tensor, keys: Tensor) -> Versions:
        """Return the versions whose pixels are finite, projected onto ball and box, with notes on the others."""
        notes = []
        finite = torch.isfinite(x_adv).flatten(1).all(dim=1)
        rows = finite.nonzero().squeeze(1)
        if len(rows) < len(x):
            about = f"{self.code} returned pixels that are NaN or infinite, which count for nothing,"
            notes.append(image_note(NOT_FINITE, keys[(~finite).cpu()].tolist(), about))
        x_adv, x = x_adv[rows], x[rows]
        beyond = length(x_adv.double() - x.double(), section.norm) - section.eps
        slack = rounding(section.norm, x[0].numel()) if len(x) else 0.0
        pixels = torch.maximum(-x_adv, x_adv - 1).flatten(1).amax(dim=1)
        for what, by in (("eps", beyond), ("0 or 1", pixels.double())):
            if (by > slack).any():
                about = f"{self.code} went beyond {what}, and is projected back,"
                outside = keys[rows.cpu()][(by > slack).cpu()].tolist()
                notes.append(image_note(OUTSIDE, outside, about, {"pixel units": float(by.max())}))
        return Versions(rows, settle(x, x_adv, section.norm, section.eps), tuple(notes))

    def _ended(self, why: str, keys: Tensor) -> Note:
        about = f"{self.code} ended ({shorten(why, 200)}) and took no part"
        return image_note(ENDED, keys.tolist(), about)


def own_attack(said: str) -> OwnAttack:
    """Run the code of an attack, if the user named it in this command, and return what its name stands for.

    Args:
        said: ``"FILE.py:NAME"`` or ``"MODULE:NAME"``.

    Raises:
        UsageError: the user did not name the code, there is no such name in it, or it is not called as an attack is.
        PluginError: the file raises an error.
    """
    code = consented(said, ALSO)
    found = run_code(code, again=False)
    takes = f"an attack of one's own is a function attack({ARGUMENTS}) that returns images"
    if not callable(found) or isinstance(found, type):
        raise UsageError(f"{code.key} is {type(found).__name__}, and no function", takes)
    try:
        inspect.signature(found).bind(*ARGUMENTS.split(", "))
    except TypeError as error:
        raise UsageError(f"{code.key} cannot be called as an attack: {error}", takes) from None
    except ValueError:
        # Its signature cannot be known.
        pass
    return OwnAttack(found, code.key, source_hash(code), code.place)


def _misfit(returned: object, x: Tensor) -> str:
    """Return why what an attack returned is no version of the images; "" if it is one."""
    if not isinstance(returned, Tensor):
        return f"it returned {type(returned).__name__}, not a tensor of images"
    if returned.shape != x.shape:
        return f"it returned shape {tuple(returned.shape)} for images {tuple(x.shape)}"
    if not returned.is_floating_point():
        return f"it returned {str(returned.dtype).removeprefix('torch.')}, not real numbers in [0, 1]"
    return ""
