"""What holds for every test: one thread for each worker, and no settings of the person who runs them."""

import os

# Before torch is imported: two workers with a thread for each core get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in ("RUSHKIT_RUNS", "RUSHKIT_DEVICE", "RUSHKIT_PRECISION", "RUSHKIT_PLUGINS", "RUSHKIT_DEBUG", "FORCE_COLOR"):
    os.environ.pop(_name, None)
