"""The tables of reports and of the terminal, each defined once."""
