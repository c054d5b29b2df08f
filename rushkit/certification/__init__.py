"""Certified radii from counted votes, and certified predictions of single images."""
