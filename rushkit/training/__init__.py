"""Pre-training and fine-tuning, and the training loop that they share."""
