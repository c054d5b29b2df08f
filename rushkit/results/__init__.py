"""Records: what stages write, with a type for every file, read by reports, comparisons and later stages."""

from rushkit.results.records import Results, dump, parse, read

__all__ = ["Results", "dump", "parse", "read"]
