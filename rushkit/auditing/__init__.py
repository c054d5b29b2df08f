"""Whether measured robustness is real: measurements and the checks that judge them."""
