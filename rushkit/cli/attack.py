"""``rushkit attack``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_attacks, complete_runs
from rushkit.cli.given import Measured
from rushkit.cli.options import MOST, Changes, Computing, Output, ReplacedRanks, Resuming, Samples, Skip, Split, numbers
from rushkit.cli.packing import Packing, pack_asked
from rushkit.cli.source import attack_flags, check_flags, resolve_classifier, runs_root
from rushkit.cli.verb import verb
from rushkit.named_code import ALSO, IDENTITY, SURROGATE, name_code, read_code
from rushkit.paths import expand_text

if TYPE_CHECKING:
    from rushkit.recipe.toml import Given
    from rushkit.results.attacks import ProtocolName
    from rushkit.run.asked import AttackAsked
    from rushkit.run.checkpoint import Checkpoint

NAME = "attack"
EXAMPLE = "Example: rushkit attack --type pgd --eps 8/255 --protocol both --limit 100"


class Protocol(StrEnum):
    """Which protocols run."""

    PAPER = "paper"
    STRICT = "strict"
    BOTH = "both"
    PUBLISHED = "published"


_PROTOCOLS: dict[Protocol, list[ProtocolName]] = {
    Protocol.PAPER: ["paper"],
    Protocol.STRICT: ["strict"],
    Protocol.BOTH: ["paper", "strict"],
    Protocol.PUBLISHED: ["published"],
}


# Flags that a resumed run takes: they name code, which no run's folder does.
_NAMED_AGAIN = ("surrogate", "also")


@dataclass(frozen=True)
class Options:
    """The options for the attacks, their images, and the files to keep."""

    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="NAME",
            help="An attack's name; default: those of the recipe.",
            autocompletion=complete_attacks,
        ),
    ] = None
    eps: Annotated[
        str | None, typer.Option("--eps", help="Radius in pixel units, such as 8/255, or several: 2/255,4/255.")
    ] = None
    norm: Annotated[
        str | None,
        typer.Option("--norm", help="linf, l2 or l1; or several with a radius each: --norm linf,l2 --eps 8/255,0.5."),
    ] = None
    protocol: Annotated[
        Protocol,
        typer.Option(
            "--protocol",
            case_sensitive=False,
            help="paper reproduces the paper's figures; strict is what may be quoted; published runs the attacks "
            "that the recipe's method was published with.",
        ),
    ] = Protocol.BOTH
    effort: Annotated[
        int | None,
        typer.Option("--effort", metavar="1|2|4", help="Budget of strict, as a multiple; the row names it."),
    ] = None
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="CLASS", help="Have every image of another class taken for this one."),
    ] = None
    eight_bit: Annotated[
        bool, typer.Option("--eight-bit", help="Only images of 8-bit pixels count: they survive being saved.")
    ] = False
    smallest: Annotated[
        bool,
        typer.Option("--smallest", help="Search the smallest distance up to --eps that breaks each image, by strict."),
    ] = False
    surrogate: Annotated[
        str | None,
        typer.Option(
            SURROGATE,
            metavar="FILE.py:NAME",
            help="A differentiable stand-in whose gradients are followed; values and decisions are the model's. "
            "`identity` stands for what --front names.",
        ),
    ] = None
    also: Annotated[
        list[str] | None,
        typer.Option(
            ALSO,
            metavar="FILE.py:NAME",
            help="An attack of your own, NAME(model, x, y, eps, norm, seed), takes part in strict; may be repeated.",
        ),
    ] = None
    samples: Samples = None
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=0, max=MOST, help="Images to attack; 0 for all.")
    ] = None
    skip: Skip = None
    split: Split = None
    eot: Annotated[
        int | None,
        typer.Option(
            "--eot", metavar="M", min=1, max=MOST, help="Draws of noise a gradient; default: those of the protocol."
        ),
    ] = None
    save: Annotated[bool, typer.Option("--save", help="Keep the adversarial images in the run folder.")] = False
    export: Annotated[
        str | None,
        typer.Option(
            "--export", metavar="DIR", help="Write the images, original and attacked, as PNG; with --eight-bit."
        ),
    ] = None
    transfer_to: Annotated[
        str | None,
        typer.Option(
            "--transfer-to",
            metavar="RUN",
            autocompletion=complete_runs,
            help="Ask another model about the same images; keeps them, too.",
        ),
    ] = None

    def keys(self) -> dict[str, Given]:
        """Return the keys that every attack of the recipe gets; None changes nothing."""
        from rushkit.recipe.attack_flags import several

        samples = numbers(self.samples, "--samples")
        ball = {"norm": several(self.norm and self.norm.lower(), "--norm"), "eps": several(self.eps, "--eps")}
        how = {"target": self.target, "eight_bit": self.eight_bit or None, "smallest": self.smallest or None}
        code: dict[str, Given] = {"surrogate": self._surrogate(), "also": self._also()}
        return {**ball, **how, **code, "samples": samples, "eot": self.eot, "effort": self.effort, **self.images()}

    def _surrogate(self) -> str | None:
        """Return the surrogate by its whole path."""
        plain = self.surrogate in (None, IDENTITY)
        return self.surrogate if plain else str(read_code(str(self.surrogate), flag=SURROGATE))

    def _also(self) -> Given:
        """Return the attacks of one's own by their whole paths."""
        return None if self.also is None else [str(read_code(said, flag=ALSO)) for said in self.also]

    def name(self) -> None:
        """Take down that the user names the code of the surrogate and of attacks."""
        if self.surrogate not in (None, IDENTITY):
            name_code(str(self.surrogate), SURROGATE)
        for said in self.also or ():
            name_code(said, ALSO)

    def check_export(self) -> None:
        """Raise UsageError for a folder that images cannot be written to."""
        if self.export is not None:
            from rushkit.robustness.export_images import check_folder

            check_folder(Path(expand_text(self.export)))

    def checked(self) -> Iterator[dict[str, Given]]:
        """Yield the keys to check before the recipe is known, with one ball at a time."""
        from rushkit.recipe.attack_flags import balls_of

        keys = self.keys()
        for ball in balls_of(keys["norm"], keys["eps"]):
            yield {**keys, **ball}

    def images(self) -> dict[str, Given]:
        """Return the keys that say which images are attacked."""
        return {"limit": self.limit, "skip": self.skip, "split": self.split}

    def flags(self) -> dict[str, object]:
        """Return the flags that only a new run takes."""
        protocol = None if self.protocol == Protocol.BOTH else self.protocol
        keys = {f"--{key.replace('_', '-')}": value for key, value in self.keys().items() if key not in _NAMED_AGAIN}
        return {"--type": self.kind, "--protocol": protocol, "--export": self.export, **keys}

    def asked(self, other: Checkpoint | None) -> AttackAsked:
        """Return what run.json keeps of them."""
        from rushkit.run.asked import AttackAsked

        path = str(other.path) if other else None
        export = str(Path(expand_text(self.export)).absolute()) if self.export is not None else None
        return AttackAsked(protocols=_PROTOCOLS[self.protocol], save=self.save, transfer_to=path, export=export)


@verb
def command(
    *,
    measured: Measured,
    options: Options,
    packing: Packing,
    changes: Changes = None,
    resuming: Resuming,
    computing: Computing,
    ranks: ReplacedRanks,
    output: Output,
) -> None:
    """Accuracy of a fine-tuned model under attack: by the paper's protocol, and by a strict one."""
    changes = computing.changes(changes)
    resuming.check({**options.flags(), **measured.flags(), "--artifact": packing.artifact})
    measured.check(resuming.resume)
    options.name()
    options.check_export()
    packing.check()
    if not resuming.resume:
        for keys in options.checked():
            check_flags(changes, attack_flags(type=options.kind, **keys))
    going_on, changes = ranks.go_on(resuming, changes)
    from rushkit.recipe.attack_flags import change_attacks, change_published
    from rushkit.recipe.components import check_components
    from rushkit.report.terminal.tables import record_table
    from rushkit.robustness.attack import attack
    from rushkit.robustness.failures import failed_error
    from rushkit.robustness.jobs import check_keeping, plan_jobs
    from rushkit.robustness.resume import resume_attack
    from rushkit.robustness.surrogates import check_named_code
    from rushkit.run.source import resolve_from
    from rushkit.setup.model import classes_of, image_size_of, is_random
    from rushkit.setup.resume import Stopped, reopen
    from rushkit.setup.start import start_run

    speaker, root = output.speaker(), runs_root(changes)
    other = None
    # A later attempt of a job goes on with the model that the first one found.
    if options.transfer_to is not None and going_on == resuming:
        other = resolve_from(options.transfer_to, root, "finetune").load(warn=speaker.warn)
    if going_on.resume:
        measured.name()
        recipe, run = reopen(Stopped(NAME, root, going_on.run_folder), changes, speaker)
        checkpoint, asked, other = resume_attack(recipe, run, options.save, other)
    else:
        recipe, checkpoint = resolve_classifier(measured, changes, speaker)
        change = change_published if options.protocol == Protocol.PUBLISHED else change_attacks
        recipe = change(recipe, options.kind, changes=changes or [], **options.keys())
        asked = packing.asked(options.asked(other))
        # Before the folder is made, so that an attack that cannot be made leaves none.
        check_components(recipe)
        known = classes_of(checkpoint), asked.protocols, image_size_of(checkpoint), is_random(checkpoint)
        jobs = plan_jobs(recipe, *known, "logits" if recipe.model is None else recipe.model.answers)
        check_keeping(jobs, asked.save, other is not None, asked.export is not None)
        check_named_code(jobs, checkpoint)
        packing.check_jobs(jobs, checkpoint)
        run = start_run(NAME, recipe, speaker, checkpoint, asked.facts())
    with run:
        results = attack(recipe, checkpoint, run, asked.protocols, asked.save, other, asked.folder)
        pack_asked(asked, results, recipe, checkpoint)
    output.result(results, record_table(results))
    speaker.say(f"run: {run.path}")
    if failed := results.failed:
        raise failed_error(failed, len(failed) + len(results.attacks))
