"""How fast this machine does the work of a recipe."""
