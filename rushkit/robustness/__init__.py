"""Run attacks on a smoothed classifier under a protocol, and measure its robust accuracy."""
