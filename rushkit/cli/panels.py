"""The groups that ``--help`` shows options in: what a command works on, what it does, and how it runs and speaks."""

from __future__ import annotations

MODEL, DATA, TRAINING, ATTACK = "Model", "Data", "Training", "Attack"
THREATS = "Corruptions and shifts"
CERTIFICATE, RUN, OUTPUT = "Certificate", "Run", "Output"

_FLAGS = {
    MODEL: (
        *("--from", "--recipe", "--samples", "--supervised", "--backbone", "--name", "--mean", "--std", "--rename"),
        *("--ignore", "--keys", "--encoder-only", "--branch", "--pretrained", "--part", "--format", "--clusters"),
        *("--starts", "--model", "--front", "--model-arg", "--weights", "--classes", "--input-size", "--output"),
        *("--answers", "--init", "--extend"),
    ),
    DATA: ("--to", "--data", "--split", "--limit", "--skip", "--check", "--data-dir"),
    TRAINING: ("--epochs", "--batch-size", "--lr", "--every", "--keep", "--track"),
    ATTACK: (
        *("--type", "--eps", "--norm", "--protocol", "--effort", "--eot", "--steps", "--queries", "--claim"),
        *("--save", "--transfer-to", "--target", "--smallest", "--eight-bit", "--self-test", "--case"),
        *("--artifact", "--with-weights", "--surrogate", "--also"),
    ),
    THREATS: ("--corruptions", "--strengths", "--baseline", "--shift", "--rotation", "--translation", "--grid"),
    CERTIFICATE: ("--alpha", "--radius", "--from-counts"),
    RUN: (
        *("--set", "--import", "--resume", "--run", "--dry-run", "--seed", "--device", "--nproc", "--restarts"),
        *("--runs-dir", "--seconds", "--batch"),
    ),
    OUTPUT: (
        *("--out", "--figures", "--export", "--images", "--force", "--license", "--all", "--json", "--quiet"),
        "--verbose",
        "--debug",
    ),
}
_PANELS = {flag: panel for panel, flags in _FLAGS.items() for flag in flags}


def panel_of(flag: str) -> str | None:
    """Return the group of an option, by its flag; None for one that stands alone."""
    return _PANELS.get(flag)
