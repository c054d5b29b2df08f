"""The names of the files in a run's folder.

runs/<UTC>-<verb>-<recipe>-<id>/
  recipe.toml  run.json  metrics.jsonl  log.txt  results.json  checkpoints/  counts/  figures/
"""

from __future__ import annotations

RUN_FILE, RECIPE_FILE, LOG_FILE, METRICS_FILE = "run.json", "recipe.toml", "log.txt", "metrics.jsonl"
CHECKPOINTS, COUNTS = "checkpoints", "counts"
# The suffix of checkpoint files.
SUFFIX = ".safetensors"
# Files of ``checkpoints/`` that name one of the others.
POINTERS = ("best", "last")
# The files of a published model's folder that say what it is.
PUBLISHED_WEIGHTS, CLAIMS_FILE = f"model{SUFFIX}", "claims.json"
# Keys of run.json that name a checkpoint by its path; the run keeps it under this name until it is finished.
NAMED_CHECKPOINTS = ("parent", "transfer_to", "init", "extends")
