"""Attacks on a smoothed classifier under a protocol, and what they leave of its accuracy."""
