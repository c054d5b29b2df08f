"""A report as a page and as Markdown: templates, styles, and the panel of examples."""
