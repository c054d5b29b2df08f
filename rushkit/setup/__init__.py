"""From a recipe or a checkpoint to what a stage works on: components, models, the subject that is measured."""
