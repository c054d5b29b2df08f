"""The protocols of attack: ``paper`` reproduces the RUSH paper's figures; figures under ``strict`` may be quoted.

A protocol defines which attacks run, with which options, and how many votes of fresh noise score the images that they
return. A row with other settings lists them, and is labelled strict only if they are at least as strong. ``published``
has no settings: it runs the attacks that a method was published with, exactly as its recipe writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, Literal

from rushkit import registries
from rushkit.attacks.abilities import ChecksFit
from rushkit.attacks.apgd import APGD
from rushkit.attacks.autoattack import AutoAttack
from rushkit.attacks.cascade.attack import Cascade
from rushkit.attacks.cascade.schedule import AGREEMENT, MOMENTUM, Schedule, first_step, looks, schedule_of
from rushkit.attacks.losses import classes_needed
from rushkit.attacks.margins import SETTLED
from rushkit.attacks.pgd import PGD
from rushkit.attacks.race import CLEARLY, Panel
from rushkit.errors import UsageError
from rushkit.image_size import ImageSize, sides
from rushkit.recipe.radius import eps_words
from rushkit.recipe.schema import Attack
from rushkit.registry import with_numbers
from rushkit.results.attacks import Deviation, Protocol, ProtocolName
from rushkit.results.notes import Note
from rushkit.results.rounds import AttackRound
from rushkit.robustness.deviations import PUBLISHED, as_written, deviations_from, label_of
from rushkit.robustness.own_attacks import OwnAttack
from rushkit.system import derived_seed

# With fewer draws the noise hides the gradient, whatever the m of the votes (the paper's I_F+ has 64). It is also the
# EOT of official AutoAttack, which strict keeps for any m.
STRICT_SAMPLES = 20
STRICT_STEPS = 40
STRICT_RESTARTS = 2
STRICT_VOTES = 10
# Losses with different failure modes: eq. 7, the mean cross-entropy over draws, DLR, which does not saturate, and the
# margin.
STRICT_LOSSES = ("nll", "ce", "dlr", "margin")
PAPER_STEPS = 40
# The attacks that strict has settings for. Any other attack runs once with its own settings, and counts as weaker.
STRICT_ATTACKS = (Cascade, PGD, APGD, AutoAttack)
# The paper's step size, 2/255 at eps 8/255, as a fraction of eps.
PAPER_STEP = 1 / 4


# The options of an attack by name; the attack itself checks their types.
Options = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """One attack of a protocol.

    Attributes:
        label: The name that reports use, such as ``"pgd nll"``.
        name: The registered name of the attack.
        options: Its options other than norm and eps.
    """

    label: str
    name: str
    options: Options

    def create(self, section: Attack) -> Any:
        """Create the attack with the section's norm and eps; its seed is the same for every block of images."""
        return registries.attacks.create(self.name, norm=section.norm, eps=section.eps, **self.options)


@dataclass(frozen=True)
class Plan:
    """The attacks of a protocol on one model.

    Attributes:
        protocol: The name of the protocol.
        candidates: The attacks; each image keeps the version that fools the model most.
        votes: T, the number of independent votes of m draws that score each image.
        gradient_samples: Draws of noise in each gradient.
        panel: Whether the attack sees the model on one fixed panel of draws, as a deterministic model.
        notes: Notes that qualify the figures.
        deterministic: Whether there is no noise.
        deviations: Settings that differ from the protocol's.
        effort: How much of the protocol's budget is spent: 1, 2 or 4 times.
        rounds: The rounds of a cascade, as the record keeps them; empty for other attacks.
        selection: The sizes of a cascade's panels of selection; empty for other attacks.
        thresholds: What decides within a cascade, by name; empty for other attacks.
        most_passes: Passes that the search takes for an image at most, forward and backward, each draw counted; None if
            that is not known.
        likely_passes: The same where images leave as usual.
        target: Index of the class that the images are to be taken for; None: any but their own.
        smaller: Radius of the smaller ball whose versions are tried first, pixel units; None: there is none.
        also: Attacks of the user's own, for what the candidates leave; ``with_own_attacks`` fills them in.
    """

    protocol: ProtocolName
    candidates: tuple[Candidate, ...]
    votes: int
    gradient_samples: int
    panel: bool = False
    notes: tuple[Note, ...] = ()
    deterministic: bool = False
    deviations: tuple[Deviation, ...] = ()
    effort: int = 1
    rounds: tuple[AttackRound, ...] = ()
    selection: tuple[int, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    most_passes: int | None = None
    likely_passes: int | None = None
    target: int | None = None
    smaller: float | None = None
    also: tuple[OwnAttack, ...] = ()

    def towards(self, target: int | None) -> Plan:
        """Return the plan with the images to be taken for a class; None: for any but their own."""
        return replace(self, target=target)

    @property
    def first_own(self) -> int:
        """The number of the first attack of the user's own: they follow the candidates and the smaller ball."""
        return len(self.candidates) + (self.smaller is not None)

    @property
    def label(self) -> Protocol:
        """The label of its row: the protocol's name, or ``weaker`` if the deviations make it weaker than strict."""
        return label_of(self.protocol, self.deviations)


def plan_attack(
    section: Attack,
    protocol: ProtocolName,
    samples: int,
    classes: int,
    seed: int,
    deterministic: bool = False,
    image_size: ImageSize | None = None,
) -> Plan:
    """Plan the attacks of a protocol for one ``[[attack]]`` section, whose options override the protocol's.

    Args:
        section: Type, norm, eps, draws per gradient and options.
        protocol: ``paper``, ``strict`` or ``published``.
        samples: m of the smoothed classifier.
        classes: K; the DLR loss needs three, or four with a target.
        seed: Seeds every draw.
        deterministic: Whether there is no noise, so that one draw and one vote suffice.
        image_size: Size of the images; None skips the check that the attack fits them.

    Raises:
        UsageError: the attack, its norm or an option does not exist or fit, or there are too few classes.
    """
    if protocol == PUBLISHED and (section.target or section.eight_bit or section.surrogate or section.also):
        raise UsageError(
            "a published attack runs as it is written: without a target, on any pixels, by the model's own slopes",
            "leave target, eight_bit, surrogate and also out of [[published]]",
        )
    # Towards a target the classes are two: the target, and any other.
    plan = _planned(section, protocol, samples, 2 if section.target else classes, seed, deterministic, image_size)
    if section.eight_bit:
        # Versions between the grey levels are left out, so it is another adversary than strict's.
        own = Deviation(name="eight_bit", value=True, own=False, weaker=protocol == "strict")
        plan = replace(plan, deviations=(*plan.deviations, own))
    return plan


def _planned(
    section: Attack,
    protocol: ProtocolName,
    samples: int,
    classes: int,
    seed: int,
    deterministic: bool,
    image_size: ImageSize | None,
) -> Plan:
    strict = protocol == "strict"
    factory = registries.attacks.get(section.type)
    samples = 1 if deterministic else samples
    if protocol == PUBLISHED:
        return _fitting(_as_written(section, samples, seed, deterministic), section, classes, image_size)
    if strict and (rule := _rule_of(section, factory)):
        return _cascade(section, rule, samples, classes, seed, deterministic)
    known = signature(factory).parameters
    climbs = factory in (PGD, APGD)
    own: Options = {"seed": seed} if "seed" in known else {}
    notes = _version(section, factory, deterministic, own)
    if strict and section.effort > 1:
        own["effort"] = section.effort
    version = section.options.get("version", own.get("version"))
    own_draws = _own_draws(strict, samples, str(version) if version else None, deterministic)
    gradient_samples = own_draws if deterministic else section.eot or own_draws
    if strict and "samples" in known:
        own["samples"] = gradient_samples
    if climbs:
        own |= _climb_options(section, known, strict, gradient_samples)
    options = own | section.options
    if options.get("noise") == "none":
        gradient_samples = own_draws = 1
    # PGD can attack a fixed panel of noise itself; any other attack gets a deterministic model with the panel inside.
    panel = not strict and "noise" not in options and not deterministic
    if panel:
        text = f"one panel of {gradient_samples} draws stands for the model during the attack"
        notes.append(Note(code="one-panel", text=text, figures={"draws": gradient_samples}))
    losses = STRICT_LOSSES if strict and climbs and "loss" not in section.options else ()
    targeted = bool(section.options.get("targeted", False))
    fitting = [loss for loss in losses if classes >= classes_needed(loss, targeted)]
    if len(fitting) < len(losses):
        text = f"no DLR loss: {_few(section, classes)}"
        notes.append(Note(code="no-dlr", text=text, figures={"classes": classes}))
    notes += _short_steps(section, factory, options)
    candidates = [
        Candidate(f"{section.type} {loss}", section.type, options | {"loss": loss, "seed": derived_seed(seed, loss)})
        for loss in fitting
    ]
    planned = tuple(candidates) or (Candidate(_label(section, options), section.type, options),)
    plan = Plan(
        protocol,
        planned,
        votes=1 if deterministic else protocol_votes(protocol),
        gradient_samples=gradient_samples,
        panel=panel,
        notes=tuple(notes),
        deterministic=deterministic,
        deviations=_deviations(section, factory, strict, own, gradient_samples, own_draws, deterministic),
        effort=section.effort if strict else 1,
    )
    return _fitting(plan, section, classes, image_size)


def _as_written(section: Attack, samples: int, seed: int, deterministic: bool) -> Plan:
    """Return the plan of a published attack: its section's options, and the attack's own default for any other.

    The model is attacked as it is: under noise, every query draws afresh unless the options say otherwise.

    Raises:
        UsageError: the section asks for something that a published attack does not have, or does not fit.
    """
    factory = registries.attacks.get(section.type)
    known = signature(factory).parameters
    if section.effort > 1:
        raise UsageError(
            f"effort {section.effort} is a budget of the protocol strict: a published attack has none",
            "leave it out of [[published]]",
        )
    if section.eot and not deterministic and "samples" not in known:
        raise UsageError(
            f"{section.type} takes no number of draws a gradient, and [[published]] asks for eot {section.eot}",
            "leave eot out: such an attack queries the model with its own m",
        )
    own: Options = {"seed": seed} if "seed" in known else {}
    notes = _version(section, factory, deterministic, own)
    version = section.options.get("version", own.get("version"))
    draws = 1 if deterministic else section.eot or (STRICT_SAMPLES if version == "rand" else samples)
    if "samples" in known:
        own["samples"] = draws
    options = own | section.options
    candidate = Candidate(_label(section, options), section.type, options)
    notes += _short_steps(section, factory, options)
    written = {key: value for key, value in section.options.items() if key != "seed"}
    if section.eot and not deterministic:
        written["eot"] = section.eot
    return Plan(
        PUBLISHED,
        (candidate,),
        votes=1,
        gradient_samples=draws,
        notes=tuple(notes),
        deterministic=deterministic,
        deviations=tuple(as_written(written)),
    )


def _fitting(plan: Plan, section: Attack, classes: int, image_size: ImageSize | None) -> Plan:
    """Return the plan, after its attacks were made and found to go with the classes and, if known, the images' side.

    Raises:
        UsageError: an option does not exist, or an attack does not fit.
    """
    for candidate in plan.candidates:
        attack = candidate.create(section)
        if image_size is not None and isinstance(attack, ChecksFit):
            attack.check_fit(classes, *sides(image_size))
    return plan


def _few(section: Attack, classes: int) -> str:
    """Return why there is no DLR loss."""
    return "a target has one rival, any other class" if section.target else f"{classes} classes are too few for it"


def _version(section: Attack, factory: Any, deterministic: bool, own: Options) -> list[Note]:
    """Add the version of AutoAttack to the protocol's own options, and return a note if the section leaves it open."""
    if not (isinstance(factory, type) and issubclass(factory, AutoAttack)):
        return []
    own["version"] = "standard" if deterministic else "rand"
    if "version" in section.options or deterministic:
        return []
    text = "version rand, the default on a smoothed model; set `version` to standard for the other"
    return [Note(code="rand-version", text=text)]


def _rule_of(section: Attack, factory: Any) -> Literal["mixed", "apgd"] | None:
    """Return the steps of the cascade that stands for an attack under strict; None for an attack that runs itself.

    Raises:
        UsageError: an attack that runs itself was given an effort.
    """
    if factory in (PGD, APGD, Cascade) and not set(section.options) - {"seed"}:
        return "apgd" if factory is APGD else "mixed"
    if section.effort > 1 and factory is not AutoAttack:
        raise UsageError(
            f"{section.type} has no effort {section.effort} here: it runs once, with settings of its own",
            "effort is for `pgd` and `apgd` without options of their own, and for `autoattack`",
        )
    return None


def _cascade(
    section: Attack, rule: Literal["mixed", "apgd"], samples: int, classes: int, seed: int, deterministic: bool
) -> Plan:
    """Return the plan of a cascade, which is what strict runs for ``pgd`` and, with the steps of Auto-PGD, ``apgd``."""
    options: Options = {"rule": rule, "effort": section.effort, "seed": seed} | section.options
    if section.eot and not deterministic:
        options["samples"] = section.eot
    candidate = Candidate(section.type, "cascade", options)
    attacker: Cascade = candidate.create(section)
    schedule = attacker.schedule(not deterministic, classes)
    notes: list[Note] = []
    if classes < classes_needed("dlr", targeted=False):
        text = f"no DLR loss: {_few(section, classes)}; the margin replaces it"
        notes.append(Note(code="no-dlr", text=text, figures={"classes": classes}))
    panel = Panel.of(samples, not deterministic, seed)
    own = schedule_of(section.norm, not deterministic, classes, attacker.effort, rule)
    deviations = []
    if not deterministic and section.eot and schedule != own and section.eps:
        deviations.append(Deviation(name="eot", value=section.eot, own=own.fewest_draws, weaker=False))
    return Plan(
        "strict",
        (candidate,),
        votes=1 if deterministic else STRICT_VOTES,
        gradient_samples=schedule.usual_draws,
        notes=tuple(notes),
        deterministic=deterministic,
        deviations=tuple(deviations),
        effort=attacker.effort,
        rounds=tuple(_recorded(schedule, section)),
        selection=panel.ends,
        thresholds={} if deterministic else {"agreement": AGREEMENT, "clearly": CLEARLY, "settled": SETTLED},
        most_passes=schedule.most_passes(panel.size),
        likely_passes=schedule.likely_passes(panel.ends[0]),
    )


def _recorded(schedule: Schedule, section: Attack) -> list[AttackRound]:
    """Return the climbs of a schedule as the record keeps them, with every number that defines them."""
    recorded = []
    for part, ascent in schedule.climbs:
        steps = schedule.rounds[part].steps
        recorded.append(
            AttackRound(
                method=ascent.rule,
                loss=ascent.loss,
                steps=steps,
                draws=schedule.rounds[part].draws,
                most_draws=max(schedule.ladder(part)),
                start=ascent.start,
                doubling=part + 1,
                momentum=MOMENTUM if ascent.rule == "falling" else 0.0,
                step_size=first_step(ascent.rule, section.norm, section.eps),
                offered=[*looks(steps), steps],
                options={"rival": ascent.rival} if ascent.rival else {},
            )
        )
    return recorded


def protocol_votes(protocol: ProtocolName) -> int:
    """Return how many votes of fresh noise a protocol takes on each image, for a model with noise."""
    return STRICT_VOTES if protocol == "strict" else 1


def further_samples(section: Attack, samples: int, plan: Plan) -> list[int]:
    """Return the other numbers of draws whose votes score the images that were attacked for votes of ``samples``."""
    return [] if plan.deterministic else sorted(set(section.score_samples) - {samples})


def _own_draws(strict: bool, samples: int, version: str | None, deterministic: bool) -> int:
    """Return how many draws the protocol itself uses for each gradient."""
    if deterministic or not strict:
        return samples
    if version is None:
        return max(samples, STRICT_SAMPLES)
    # Official AutoAttack uses EOT 20 in rand; standard queries the model as it is, with its own m.
    return STRICT_SAMPLES if version == "rand" else samples


def _deviations(
    section: Attack,
    factory: Any,
    strict: bool,
    own: Options,
    gradient_samples: int,
    own_draws: int,
    deterministic: bool,
) -> tuple[Deviation, ...]:
    """Return the settings that differ from the protocol's, except seeds and settings that have no effect here."""
    defaults = {name: parameter.default for name, parameter in signature(factory).parameters.items()}
    own = defaults | own | {"eot": own_draws}
    idle = ("seed", *(("noise", "selection_samples") if deterministic else ()))
    options = with_numbers(factory, section.options)
    given = {"eot": gradient_samples} | {name: value for name, value in options.items() if name not in idle}
    if strict:
        if factory not in STRICT_ATTACKS:
            own["type"], given["type"] = tuple(known.__name__.lower() for known in STRICT_ATTACKS), section.type
        elif factory is APGD:
            own["loss"] = STRICT_LOSSES
        elif factory in (PGD, Cascade):
            # The cascade has other settings in each round, so nothing shows that these are as strong.
            own = dict.fromkeys(given, "by round")
            given = {name: value for name, value in given.items() if name != "eot" or section.eot}
            own["type"], given["type"] = "cascade", section.type
        if "selection_samples" in defaults:
            own["selection_samples"] = max(own_draws, STRICT_SAMPLES)
    return tuple(deviations_from(own, given))


def _short_steps(section: Attack, factory: Any, options: Options) -> list[Note]:
    """Return a note if steps of a fixed length, laid end to end, cannot reach the surface of the ball."""
    defaults = {name: parameter.default for name, parameter in signature(factory).parameters.items()}
    options = defaults | with_numbers(factory, options)
    length = options.get("step_size", options.get("alpha"))
    steps = options.get("steps")
    if not isinstance(length, int | float) or not isinstance(steps, int) or not length * steps < section.eps:
        return []
    reach, radius = f"{length * steps:.4g}", eps_words(section.eps)
    text = f"{steps} steps of {length:.4g} reach {reach}, and the ball has the radius {radius}"
    return [Note(code="short-steps", text=text, figures={"reach": length * steps, "eps": section.eps})]


def _climb_options(section: Attack, known: Any, strict: bool, gradient_samples: int) -> Options:
    """Return the protocol's options for PGD or APGD, the attacks that climb a loss."""
    if strict:
        wanted: Options = {"restarts": STRICT_RESTARTS, "noise": "fresh"}
        return {key: value for key, value in wanted.items() if key in known} | (
            {"steps": STRICT_STEPS} if known["steps"].default < STRICT_STEPS else {}
        )
    if "noise" not in known:
        return {}
    return {
        "samples": gradient_samples,
        "steps": PAPER_STEPS,
        "step_size": section.eps * PAPER_STEP or None,
        "random_start": False,
        "best": "last",
        "noise": "fixed",
    }


def _label(section: Attack, options: Options) -> str:
    """Return the label of a candidate, such as ``"pgd nll"`` or ``"autoattack rand"``."""
    if section.type == "pgd":
        return f"pgd {options.get('loss', 'nll')}"
    return f"{section.type} {options['version']}" if "version" in options else section.type
