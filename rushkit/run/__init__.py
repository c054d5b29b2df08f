"""A run: its folder, its checkpoints, its metrics, and what it says while it works."""
