"""Ranks: launch, rendezvous, collectives, and each rank's share of a batch."""
