"""Results for the terminal: tables with rich, and one run in a few lines."""
