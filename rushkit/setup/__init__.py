"""Build what a stage works on from a recipe or a checkpoint: components, models, and the subject to measure."""
