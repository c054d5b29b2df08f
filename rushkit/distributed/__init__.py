"""Ranks: starting them, meeting, collectives, and a rank's share of a batch."""
