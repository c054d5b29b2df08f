"""The check of what took part in an attack: where the file contradicts itself, and else the author's statement."""

from __future__ import annotations

from collections.abc import Iterator

from rushkit.claims.case import Case, finding, not_checked
from rushkit.claims.manifest import AttackFacts, Manifest
from rushkit.errors import RushkitError, first_few, shorten
from rushkit.recipe.load import read_recipe
from rushkit.recipe.model_section import short
from rushkit.recipe.schema import Attack, Recipe
from rushkit.results.attacks import VERSIONS, ProtocolName
from rushkit.results.notes import Check
from rushkit.robustness.deviations import ALSO, PUBLISHED, SURROGATE, WEAKER
from rushkit.robustness.jobs import Job, plan_jobs

# How much of a hash is shown.
_HASH = 12
_NAMED = 4
# Settings that an artifact has by the names of a section of the recipe, and by those of its plan.
_OF_SECTION = ("norm", "eps", "eight_bit")
_OF_PLAN = ("smaller", "effort", "votes", "gradient_samples", "deviations", "rounds", "selection", "thresholds")


def says_what_took_part(case: Case) -> Check:
    """Check that stand-ins and own attacks are the same throughout the file, and say what took part.

    No score shows what found an image, and a broken image is a proof whatever found it.
    """
    manifest = case.artifact.manifest
    recipe, attack = read_recipe(manifest.recipe, "the artifact"), manifest.attack
    if problem := next(_contradictions(manifest, recipe), ""):
        return finding("RV22", "fail", f"contradicts itself: {problem}")
    if unknown := _unknown(attack):
        return not_checked("RV22", unknown)
    try:
        other = _other_settings(manifest, recipe)
    except RushkitError as error:
        return not_checked("RV22", f"its recipe cannot be planned here: {error.message}")
    if other:
        return finding("RV22", "fail", f"contradicts itself: {other}")
    parts = [first_few([candidate.label for candidate in attack.candidates[: _first_own(attack)]], _NAMED)]
    if (used := attack.surrogate) is not None:
        parts.append(f"by the gradients of {_named(used.code, used.sha256)}")
    for own in attack.own:
        moved = f", {own.projected} of its images projected" if own.projected else ""
        idle = f", no part at {own.unused}" if own.unused else ""
        parts.append(f"the author's own {_named(own.code, own.sha256)}{moved}{idle}")
    code = "; code that hashes name is not in the file" if attack.surrogate or attack.own else ""
    return finding("RV22", "pass", f"took part: {', '.join(parts)}: the author's statement{code}")


def _contradictions(manifest: Manifest, recipe: Recipe) -> Iterator[str]:
    """Yield what of the attack other parts of the file say otherwise, a sentence each."""
    attack = manifest.attack
    codes = [own.code for own in attack.own]
    last = attack.candidates[_first_own(attack) :]
    if [(one.label, one.options.get("sha256")) for one in last] != [(own.code, own.sha256) for own in attack.own]:
        yield "its own attacks are not the last of its candidates"
    stand_in = "" if attack.surrogate is None else attack.surrogate.code
    settings = {one.name: one.value for one in attack.deviations}
    if attack.protocol != PUBLISHED and (settings.get(SURROGATE, ""), settings.get(ALSO, [])) != (stand_in, codes):
        yield "its settings name another stand-in, or other attacks"
    if (recipe.model is None) != (manifest.model.given is None):
        yield "its recipe names code as the model, or it names code that its recipe does not"
    sections = recipe.published if attack.protocol == PUBLISHED else recipe.attack
    if not any(_asks_for(section, attack, stand_in, codes) for section in sections):
        yield f"its recipe asks for no {shorten(attack.attack)} with this stand-in and these attacks"
    counts = [count for own in attack.own for count in (own.projected, own.unused)]
    if max(counts, default=0) > manifest.images:
        yield "an attack moved more images than there are"


def _asks_for(section: Attack, attack: AttackFacts, stand_in: str, codes: list[str]) -> bool:
    # Attacks of one's own take part in strict alone.
    also = [] if attack.protocol == "paper" else [short(code) for code in section.also]
    return (section.type, short(section.surrogate), also) == (attack.attack, stand_in, codes)


def _unknown(attack: AttackFacts) -> str:
    """Return why the protocol's settings are not known here; empty if they are."""
    runs = VERSIONS[attack.protocol]
    if attack.version == runs:
        return ""
    return f"{attack.protocol} of version {attack.version} is not known here, where version {runs} runs"


def _other_settings(manifest: Manifest, recipe: Recipe) -> str:
    """Return in what the attack is not one that the recipe has under its protocol; empty if it is one.

    Raises:
        RushkitError: the recipe's attacks cannot be planned here, for example for want of a plugin.
    """
    attack, classes = manifest.attack, manifest.data.classes
    protocol: ProtocolName = "strict" if attack.protocol == WEAKER else attack.protocol
    said = _said(manifest)
    # Whether the model draws by itself is not known without it.
    jobs = [job for random in (False, True) for job in plan_jobs(recipe, classes, [protocol], random=random)]
    jobs += [job.alone() for job in jobs if job.smaller]
    others = [[name for name, value in _planned(job, recipe).items() if value != said[name]] for job in jobs]
    fewest = min(others, key=len, default=["protocol"])
    return f"its recipe has no such attack under {protocol}, by {first_few(fewest, _NAMED)}" if fewest else ""


def _said(manifest: Manifest) -> dict[str, object]:
    """Return the settings that an artifact states, but for attacks of the author's own."""
    attack = manifest.attack
    names = (*_OF_SECTION, *_OF_PLAN, "protocol", "samples", "seed")
    return {name: getattr(attack, name) for name in names} | {
        "attack": attack.attack,
        "split": manifest.data.split.rpartition("/")[2],
        "candidates": attack.candidates[: _first_own(attack)],
    }


def _planned(job: Job, recipe: Recipe) -> dict[str, object]:
    """Return the same settings as a recipe has them."""
    section, plan = job.section, job.plan
    of_plan = {name: list(value) if isinstance(value := getattr(plan, name), tuple) else value for name in _OF_PLAN}
    of_section = {name: getattr(section, name) for name in _OF_SECTION}
    return {
        **of_section,
        **of_plan,
        "protocol": plan.label,
        "samples": job.m,
        "seed": recipe.system.seed,
        "attack": section.type,
        "split": section.split,
        "candidates": job.candidates(),
    }


def _first_own(attack: AttackFacts) -> int:
    return len(attack.candidates) - len(attack.own)


def _named(code: str, digest: str) -> str:
    return f"{shorten(code)} (hash {digest[:_HASH]})" if digest else shorten(code)
