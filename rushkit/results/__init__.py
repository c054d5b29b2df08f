"""Typed records of the files that stages write, which reports, comparisons and later stages read."""

from rushkit.results.records import Results, dump, parse, read

__all__ = ["Results", "dump", "parse", "read"]
