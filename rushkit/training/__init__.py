"""Pre-training and fine-tuning, and the loop that both run."""
