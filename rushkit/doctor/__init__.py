"""What there is on this machine, and what would be slow or fail."""
