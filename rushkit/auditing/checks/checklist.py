"""The list of all checks, and how they are run on the measurements of an audit."""

from __future__ import annotations

import math
from collections.abc import Callable

from rushkit.auditing.checks import attacks, draws, slopes, strength, subjects
from rushkit.auditing.checks.verdict import Verdict
from rushkit.auditing.measure import Measured
from rushkit.results.notes import Check

Judge = Callable[[Measured], Verdict]

CHECKS: tuple[tuple[str, str, Judge], ...] = (
    ("RK101", "eot-not-converged", draws.eot_not_converged),
    ("RK102", "steps-not-converged", attacks.steps_not_converged),
    ("RK103", "loss-still-rising", slopes.loss_still_rising),
    ("RK104", "gradient-zero", slopes.gradient_zero),
    ("RK105", "gradient-drowned", draws.gradient_drowned),
    ("RK106", "not-finite", subjects.not_finite),
    ("RK107", "saturated", slopes.saturated),
    ("RK108", "large-eps-survived", subjects.large_eps_survived),
    ("RK109", "accuracy-rises-with-eps", attacks.accuracy_rises_with_eps),
    ("RK110", "accuracy-rises-with-steps", attacks.accuracy_rises_with_steps),
    ("RK111", "single-step-stronger", attacks.single_step_stronger),
    ("RK112", "black-box-stronger", attacks.black_box_stronger),
    ("RK113", "random-noise-stronger", attacks.random_noise_stronger),
    ("RK114", "planted-example-missed", attacks.planted_example_missed),
    ("RK115", "losses-disagree", attacks.losses_disagree),
    ("RK116", "fixed-noise-stronger", draws.fixed_noise_stronger),
    ("RK117", "votes-flip", draws.votes_flip),
    ("RK118", "out-of-ball", attacks.out_of_ball),
    ("RK119", "too-few-images", subjects.too_few_images),
    ("RK120", "other-steps-stronger", attacks.other_steps_stronger),
    ("RK121", "minimum-norm-stronger", attacks.minimum_norm_stronger),
    ("RK122", "slope-is-false", slopes.slope_is_false),
    ("RK123", "random-by-itself", draws.random_by_itself),
    ("RK124", "batch-dependent", subjects.batch_dependent),
    ("RK125", "not-continuous", slopes.not_continuous),
    ("RK126", "better-on-test", subjects.better_on_test),
    ("RK127", "claim-refuted", subjects.claim_refuted),
    ("RK128", "more-classes", subjects.more_classes),
    ("RK129", "silent-success", attacks.silent_success),
    ("RK130", "planted-optimum", strength.planted_optimum),
    ("RK131", "second-opinion", strength.second_opinion),
    ("RK132", "outputs-are-probabilities", subjects.outputs_are_probabilities),
)
# Checks that need nothing but the model before any attack.
_ALWAYS = ("RK106",)
# Checks that need attacks but no slopes: they are judged where the graph is cut as well.
_WITHOUT_SLOPES = ("RK112", "RK113", "RK118", "RK130")
# Checks of probes that no attack takes part in.
_OF_PROBES = ("RK122", "RK124", "RK125", "RK132")
# Checks of what draws do, whether of noise or of a model that is random by itself.
_ABOUT_NOISE = ("RK101", "RK105", "RK116", "RK117")


def check_all(measured: Measured) -> list[Check]:
    """Run every check on the measurements; a check whose figures are missing is skipped, with the reason."""
    checks = []
    for code, name, judge in CHECKS:
        if measured.deterministic and code in _ABOUT_NOISE:
            verdict = Verdict("skipped", "there is no noise: every draw is the same")
        elif _can_judge(code, measured):
            verdict = judge(measured)
        else:
            verdict = Verdict("skipped", f"not measured: {measured.problem}")
        checks.append(Check(code=code, name=name, status=verdict.status, says=verdict.says, figures=verdict.figures))
    return checks


def _can_judge(code: str, measured: Measured) -> bool:
    """Return whether the figures that a check needs were measured."""
    if code == "RK123":
        return measured.own_randomness is not None
    if code == "RK119":
        return not measured.not_finite
    if code == "RK127":
        return measured.claim is None or bool(measured.claim_votes)
    if code == "RK128":
        return measured.outputs > 0
    if code in _OF_PROBES:
        return measured.probes is not None
    if code in _ALWAYS or measured.best is not None:
        return True
    if code in _WITHOUT_SLOPES and measured.strongest is not None:
        return True
    # NaN pixels end the measuring: the model's answer to them is NaN as well.
    return (code == "RK104" and measured.no_gradient) or (code == "RK118" and math.isinf(measured.excess))
