"""Typed records of the files that stages write, which reports, comparisons and later stages read."""

# Imported for what it registers: how each record is had as rows.
from rushkit.results import frames
from rushkit.results.records import Results, dump, parse, read

__all__ = ["Results", "dump", "frames", "parse", "read"]
