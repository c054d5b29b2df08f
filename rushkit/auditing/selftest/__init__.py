"""The audit's test of itself: planted broken defences, weak attacks and sound models, and what it says of each."""
