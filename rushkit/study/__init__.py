"""Studies: many stages over rows and seeds, planned, run on an engine, and reported as one table."""
