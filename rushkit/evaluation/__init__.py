"""Accuracy under noise, and the linear probe of an encoder."""
