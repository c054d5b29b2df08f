"""A run: its folder, checkpoints, metrics, logs and messages."""
