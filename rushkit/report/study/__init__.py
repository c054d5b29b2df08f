"""The table of a study: rows by columns over seeds, published beside measured, in all its forms."""
