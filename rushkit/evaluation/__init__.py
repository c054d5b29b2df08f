"""Measure the accuracy of a smoothed classifier on clean images, and how far an encoder's features move."""
