"""A new plugin, written from a template."""
