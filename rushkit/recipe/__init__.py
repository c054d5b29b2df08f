"""Recipes: one TOML file says everything that a run does."""
