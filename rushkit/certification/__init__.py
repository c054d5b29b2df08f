"""Certify radii from counted votes, and predict single images with certificates."""
