"""Step rules of gradient attacks: they say where the gradient is wanted and take the step, and know no model."""
