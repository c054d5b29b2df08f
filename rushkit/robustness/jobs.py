"""The jobs of an attack: one for each attack of the recipe, number of draws and protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rushkit.attacks.abilities import asks_for
from rushkit.attacks.cascade.engine import SMALLER
from rushkit.attacks.checks import check_answers
from rushkit.attacks.targeted import target_class
from rushkit.errors import RushkitError, UsageError, shorten
from rushkit.files import plain_json
from rushkit.image_size import ImageSize
from rushkit.models.answers import Answer
from rushkit.noises import is_deterministic
from rushkit.recipe.model_section import short
from rushkit.recipe.schema import Attack, Recipe
from rushkit.results.attacks import Candidate, Deviation, FailedAttack, ProtocolName
from rushkit.results.notes import Note
from rushkit.robustness.deviations import ALSO, PUBLISHED, SURROGATE
from rushkit.robustness.own_attacks import own_attack
from rushkit.robustness.protocols import Plan, plan_attack
from rushkit.setup.components import build_noise


class ChosenImages(NamedTuple):
    """Which images of a data set an attack is given; see ``setup.components.load_split``."""

    split: str
    limit: int
    skip: int


@dataclass(frozen=True)
class Job:
    """One attack under one protocol against votes of m draws.

    Attributes:
        name: The name of its files in the run folder.
        section: The attack's section of the recipe.
        m: Number of draws in each vote.
        plan: The attacks that the protocol runs.
        smaller: Name of the job in a smaller ball whose versions are tried first; empty if there is none.
    """

    name: str
    section: Attack
    m: int
    plan: Plan
    smaller: str = ""

    @property
    def images(self) -> ChosenImages:
        """The images that it attacks, or of which it takes those that are not of its target's class."""
        return ChosenImages(self.section.split, self.section.limit, self.section.skip)

    def candidates(self) -> list[Candidate]:
        """Return its attacks as a row keeps them, and the smaller ball; the user's own attacks follow them there."""
        plan = self.plan
        rows = [
            Candidate(label=candidate.label, options=plain_json(candidate.options, candidate.label))  # type: ignore[arg-type]
            for candidate in plan.candidates
        ]
        smaller = [] if plan.smaller is None else [Candidate(label=SMALLER, options={"eps": plan.smaller})]
        return [*rows, *smaller]

    def alone(self) -> Job:
        """Return the job without the versions from a smaller ball."""
        return replace(self, smaller="", plan=replace(self.plan, smaller=None))

    def failed(self, error: RushkitError) -> FailedAttack:
        """Return the row of an attack that raised an error."""
        return FailedAttack(
            attack=self.section.type,
            norm=self.section.norm,
            eps=self.section.eps,
            protocol=self.plan.label,
            samples=self.m,
            message=error.message,
            hint=error.hint,
        )


def plan_jobs(
    recipe: Recipe,
    classes: Sequence[str],
    protocols: Sequence[ProtocolName],
    image_size: ImageSize | None = None,
    random: bool = False,
    answers: Answer = "logits",
) -> list[Job]:
    """Return one job for each attack of the recipe, m and protocol, those in smaller balls first.

    Under strict an attack that is also asked for in a smaller ball tries the versions found there first: they lie in
    its own ball.

    Args:
        recipe: The sections noise and attack are used.
        classes: Names of the model's classes.
        protocols: The protocols to run.
        image_size: Size of the images; None if it is not known.
        random: Whether the model is random by itself, so that draws differ without noise too.
        answers: What the model answers with.

    Raises:
        UsageError: an attack, norm or option does not fit, there are too few classes, or the recipe has no published
            attack and one is asked for; all such attacks are named.
    """
    jobs: list[Job] = []
    problems: dict[str, RushkitError] = {}
    # Without noise, and with a model that draws nothing, the classifier is the same for every m.
    deterministic = is_deterministic(build_noise(recipe)) and not random
    asked = list(_asked(recipe, protocols))
    for where, section, under in asked:
        if section.effort > 1 and under == ["paper"]:
            problems[where] = UsageError(
                f"effort {section.effort} is a budget of the protocol strict, which does not run here",
                "choose --protocol strict or both, or leave --effort out",
            )
            continue
        if section.also and (problem := _no_place_for_own(section, under)):
            problems[where] = problem
            continue
        if section.smallest:
            under = [protocol for protocol in under if protocol == "strict"]
            if problem := _unsearchable(section, under):
                problems[where] = problem
                continue
        for m in [1] if deterministic else sorted(set(section.samples)):
            for protocol in under:
                try:
                    plan = plan_attack(
                        section, protocol, m, len(classes), recipe.system.seed, deterministic, image_size
                    )
                    plan = _adapted(plan, section)
                    # A surrogate has gradients where the model has none.
                    given: Answer = "logits" if section.surrogate and answers == "probabilities" else answers
                    for candidate in plan.candidates:
                        check_answers(section.type, asks_for(candidate.create(section)), given)
                    if section.target:
                        plan = replace(plan, target=target_class(section.target, classes))
                except RushkitError as error:
                    problems.setdefault(where, error)
                    continue
                jobs.append(Job(_name(where, section, plan, m), section, m, plan))
    if len(asked) == 1 and problems:
        raise next(iter(problems.values()))
    if problems:
        types = {where: section.type for where, section, _ in asked}
        sentences = [f"{where} ({types[where]}): {problem.message}" for where, problem in problems.items()]
        hints = dict.fromkeys(problem.hint for problem in problems.values() if problem.hint)
        raise UsageError(
            f"{len(sentences)} of {len(asked)} attacks cannot run: {'; '.join(sentences)}", "; ".join(hints)
        )
    return _by_ball(jobs)


def _adapted(plan: Plan, section: Attack) -> Plan:
    """Return a plan that says what of it fits the defence: no protocol has that by itself, and none is weaker by it."""
    if section.surrogate:
        name = short(section.surrogate)
        text = f"gradients are those of the surrogate {shorten(name)}; values and decisions are the model's"
        other = Deviation(name=SURROGATE, value=name, own=None, weaker=False)
        notes = *plan.notes, Note(code="surrogate", text=text)
        plan = replace(plan, notes=notes, deviations=(*plan.deviations, other))
    if section.also and plan.protocol == "strict":
        other = Deviation(name=ALSO, value=[short(code) for code in section.also], own=None, weaker=False)
        plan = replace(plan, deviations=(*plan.deviations, other))
    return plan


def with_own_attacks(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with the attacks of the user's own that their sections name, each made once; see ``own_attack``.

    Raises:
        UsageError: two of them have one name.
    """
    strict = [job.section.also if job.plan.protocol == "strict" else [] for job in jobs]
    made = {said: own_attack(said) for said in dict.fromkeys(said for named in strict for said in named)}
    for named in strict:
        names = [made[said].code for said in named]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"two attacks are called {shorten(twice)}", "rename one of the files, or name it once")
    return [
        replace(job, plan=replace(job.plan, also=tuple(made[said] for said in named)))
        for job, named in zip(jobs, strict, strict=True)
    ]


def _no_place_for_own(section: Attack, under: Sequence[ProtocolName]) -> UsageError | None:
    """Return why attacks of the user's own cannot take part; None if they can."""
    if "strict" not in under and PUBLISHED not in under:
        return UsageError(
            "attacks of one's own take part in strict, which does not run here", "choose --protocol strict or both"
        )
    if section.target:
        return UsageError("attacks of one's own are told of no target", "leave --target or --also out")
    return None


def _unsearchable(section: Attack, under: Sequence[ProtocolName]) -> UsageError | None:
    """Return why no smallest distances can be searched; None if they can."""
    if not under:
        return UsageError(
            "the smallest distance that breaks an image is searched under the protocol strict, which does not run here",
            "choose --protocol strict or both",
        )
    if section.eps == 0:
        return UsageError("eps is the largest radius that is tried, and 0 leaves none", "for example --eps 16/255")
    return None


def check_keeping(jobs: Sequence[Job], save: bool, transfer: bool, export: bool) -> None:
    """Raise UsageError for jobs whose images cannot be kept, or not as they are asked for.

    A search of distances keeps none. Images that are exported must be made of 8-bit pixels: rounded, one may be right
    again.
    """
    flags = {"--export": export, "--transfer-to": transfer, "--save": save}
    asked = next((flag for flag, wanted in flags.items() if wanted), None)
    for job in jobs:
        if job.section.smallest and asked:
            raise UsageError(f"--smallest searches distances, and keeps no images for {asked}", "leave one of them out")
        if export and not job.section.eight_bit:
            raise UsageError(
                "--export writes 8-bit pixels, and rounded to them an adversarial image may be right again",
                "add --eight-bit: versions are then made of them",
            )


def _name(where: str, section: Attack, plan: Plan, m: int) -> str:
    """Return the name of a job's files."""
    number, ball = where.partition(".")[2], f"{section.norm}-{section.eps:.6g}"
    extra = "" if plan.target is None else f"-to-{plan.target}"
    extra += "-8bit" * section.eight_bit + "-smallest" * section.smallest
    return f"{number}-{section.type}-{ball}{extra}-{plan.label}-m{m}".replace("/", "_")


def _by_ball(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs in the order of their radii, each with the next smaller ball of the same attack under strict."""
    ordered: list[Job] = []
    before: dict[str, Job] = {}
    for job in sorted(jobs, key=lambda job: job.section.eps):
        alike = f"{job.section.model_dump(exclude={'eps'})} {job.plan.protocol} {job.m}"
        smaller = before.get(alike)
        warms = job.plan.protocol == "strict" and not job.section.smallest
        if warms and smaller is not None and 0 < smaller.section.eps < job.section.eps:
            job = replace(job, smaller=smaller.name, plan=replace(job.plan, smaller=smaller.section.eps))
        before[alike] = job
        ordered.append(job)
    # A recipe's own order says more than the radii where nothing follows from these.
    return ordered if any(job.smaller for job in ordered) else list(jobs)


def _asked(recipe: Recipe, protocols: Sequence[ProtocolName]) -> Iterator[tuple[str, Attack, list[ProtocolName]]]:
    """Yield each attack of the recipe that is to run: its place, such as ``"attack.0"``, and its protocols.

    Raises:
        UsageError: a published attack is asked for, and the recipe has none.
    """
    ours: list[ProtocolName] = [protocol for protocol in protocols if protocol != PUBLISHED]
    if ours:
        for number, section in enumerate(recipe.attack):
            yield f"attack.{number}", section, ours
    if PUBLISHED not in protocols:
        return
    if not recipe.published:
        raise UsageError(
            f"the recipe {shorten(recipe.name)!r} has no published attack to run",
            "the figures that its method was published with need a table [[published]] with the keys of [[attack]]",
        )
    for number, section in enumerate(recipe.published):
        yield f"published.{number}", section, [PUBLISHED]
