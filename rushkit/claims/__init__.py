"""Claims that a stranger can check: an attack's images in one file, and the verification of that file or of a run."""
