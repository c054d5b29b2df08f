"""Charts and diagrams: SVG for the page, matplotlib files for the run folder."""
