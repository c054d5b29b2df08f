"""The settings of an audit, as requested by a new run and read back by a resumed one."""

from __future__ import annotations

from rushkit.auditing.audit import audit_settings
from rushkit.auditing.plan import Settings
from rushkit.recipe.schema import Recipe
from rushkit.run.asked import AuditAsked

# Default number of images.
IMAGES = 64


def settings_asked(recipe: Recipe, asked: AuditAsked) -> Settings:
    """Return the requested settings, on the ball of the recipe's first attack."""
    ball = recipe.attack[0]
    return audit_settings(
        ball.norm, ball.eps, recipe.system.seed, steps=asked.steps, eot=asked.eot, queries=asked.queries
    )


def images_asked(asked: AuditAsked) -> int:
    """Return the requested number of images; 0 means all."""
    return IMAGES if asked.limit is None else asked.limit
