"""The check of what took part in an attack: where the file contradicts itself, and else the author's statement."""

from __future__ import annotations

from collections.abc import Iterator

from rushkit.claims.case import Case, finding
from rushkit.claims.manifest import AttackFacts, Manifest
from rushkit.errors import first_few, shorten
from rushkit.recipe.load import read_recipe
from rushkit.recipe.model_section import short
from rushkit.recipe.schema import Attack
from rushkit.results.notes import Check
from rushkit.robustness.deviations import ALSO, PUBLISHED, SURROGATE

# How much of a hash is shown.
_HASH = 12
_NAMED = 4


def says_what_took_part(case: Case) -> Check:
    """Check that stand-ins and own attacks are the same throughout the file, and say what took part.

    No score shows what found an image, and a broken image is a proof whatever found it.
    """
    manifest = case.artifact.manifest
    if problem := next(_contradictions(manifest), ""):
        return finding("RV22", "fail", f"contradicts itself: {problem}")
    attack = manifest.attack
    parts = [first_few([candidate.label for candidate in attack.candidates[: _first_own(attack)]], _NAMED)]
    if (used := attack.surrogate) is not None:
        parts.append(f"by the gradients of {_named(used.code, used.sha256)}")
    for own in attack.own:
        moved = f", {own.projected} of its images projected" if own.projected else ""
        idle = f", no part at {own.unused}" if own.unused else ""
        parts.append(f"the author's own {_named(own.code, own.sha256)}{moved}{idle}")
    code = "; code that hashes name is not in the file" if attack.surrogate or attack.own else ""
    return finding("RV22", "pass", f"took part: {', '.join(parts)}: the author's statement{code}")


def _contradictions(manifest: Manifest) -> Iterator[str]:
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
    recipe = read_recipe(manifest.recipe, "the artifact")
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


def _first_own(attack: AttackFacts) -> int:
    return len(attack.candidates) - len(attack.own)


def _named(code: str, digest: str) -> str:
    return f"{shorten(code)} (hash {digest[:_HASH]})" if digest else shorten(code)
