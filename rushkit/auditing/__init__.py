"""Audit whether measured robustness is real: measurements, and checks that evaluate them."""
