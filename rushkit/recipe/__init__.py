"""Recipes: one TOML file defines everything that a run does."""
