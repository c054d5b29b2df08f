"""What an audit measures, and with which budgets: asked for by a new run, and read again by a resumed one."""

from __future__ import annotations

from rushkit.auditing.audit import audit_settings
from rushkit.auditing.plan import Settings
from rushkit.recipe.schema import Recipe
from rushkit.run.asked import AuditAsked

# Images where no number of them is asked for.
IMAGES = 64


def settings_asked(recipe: Recipe, asked: AuditAsked) -> Settings:
    """Return the settings that were asked for, on the ball of the recipe's first attack."""
    ball = recipe.attack[0]
    return audit_settings(
        ball.norm, ball.eps, recipe.system.seed, steps=asked.steps, eot=asked.eot, queries=asked.queries
    )


def images_asked(asked: AuditAsked) -> int:
    """Return how many images to look at; 0 stands for all."""
    return IMAGES if asked.limit is None else asked.limit
