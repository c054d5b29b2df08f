"""The stages: plain functions from a recipe to a result, each readable from top to bottom."""
