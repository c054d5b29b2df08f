"""Write a new plugin from a template."""
