"""A report as a page: templates, styles and pictures."""
