"""The worst versions of each image among several attacks: which ranks have them, and what fresh votes say of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.auditing.attacks import Attacks, Outcome
from rushkit.auditing.plan import Measurement
from rushkit.auditing.scoring import WorstVersions
from rushkit.distributed import ranks


@dataclass(frozen=True)
class Versions:
    """The worst versions of each image.

    Attributes:
        white_box: Those of the attacks that use gradients.
        strongest: Those of all attacks.
        opinion: Those of APGD and APGD-T, the second opinion on the attack under doubt.
    """

    white_box: WorstVersions
    strongest: WorstVersions
    opinion: WorstVersions

    @classmethod
    def of(cls, x: Tensor) -> Versions:
        """Return the clean images (N, C, H, W), before any offer."""
        return cls(WorstVersions(x), WorstVersions(x), WorstVersions(x))

    def offer(self, measurement: Measurement, number: int, x_adv: Tensor, lead: list[float]) -> None:
        """Offer the images of a measurement to those that it belongs to."""
        self.strongest.offer(number, x_adv, lead)
        if measurement.uses_gradients:
            self.white_box.offer(number, x_adv, lead)
        if measurement.kind == "adaptive":
            self.opinion.offer(number, x_adv, lead)


def worst_of_all(worst: WorstVersions) -> Tensor:
    """Return the worst version of each image over all ranks, (N, C, H, W); ties go to the first measurement."""
    by_image = zip(*ranks.gather(list(zip(worst.lead.tolist(), worst.number.tolist(), strict=True))), strict=True)
    winners = [max(rivals, key=lambda rival: (rival[0], -rival[1]))[1] for rivals in by_image]
    mine = (worst.number == torch.tensor(winners)).to(worst.x_adv.device)
    # Contiguous, because ranks add up raw memory, whatever its layout.
    return ranks.total(torch.where(mine.view(-1, 1, 1, 1), worst.x_adv, 0.0).contiguous())


def judged(attacks: Attacks, versions: list[Tensor]) -> list[Outcome]:
    """Return the outcome of the final votes on each list of versions; versions that are the same are judged once."""
    base, rows = versions[0], torch.arange(len(versions[0]))
    outcomes = [attacks.judge(base, rows)]
    for x_adv in versions[1:]:
        if outcomes[0].problem:
            break
        differ = (x_adv != base).flatten(1).any(dim=1).nonzero().squeeze(1).cpu()
        again = attacks.judge(x_adv[differ], differ) if len(differ) else Outcome(share=[])
        outcomes.append(_put(outcomes[0], differ.tolist(), again))
    return outcomes


def _put(first: Outcome, rows: list[int], again: Outcome) -> Outcome:
    """Return the outcome ``again`` of some rows, with the rest of the images as they were in the first."""
    if again.problem:
        return again
    share = list(first.share or ())
    for row, new_share in zip(rows, again.share or (), strict=True):
        share[row] = new_share
    return Outcome(share=share, passes=again.passes)
