"""The checks that name each kind of fault: a planted case is caught if one of those of its fault fails.

Symptoms do not count: that an attack is weak says nothing of why a defence is broken.
"""

from __future__ import annotations

# Slopes that are zero, false or rough, and graphs that are cut.
SLOPES = ("RK104", "RK112", "RK122", "RK125")
# Logits so large that the loss has no slope in float32.
SATURATION = ("RK104", "RK107")
# Models that are random by themselves.
RANDOMNESS = ("RK123",)
# Noise that a hash of the image seeds.
HASHED_NOISE = ("RK122", "RK125")
# Labels of the images that the model is judged on.
LEAK = ("RK126",)
# Answers beyond the classes of the data.
REJECTION = ("RK128",)
# Answers that depend on the other images of the batch.
BATCH = ("RK124",)
# Attacks that find less than there is.
WEAKNESS = (
    "RK102", "RK108", "RK109", "RK110", "RK111", "RK112", "RK113", "RK114", "RK118", "RK120", "RK121", "RK130", "RK131",
)  # fmt: skip
