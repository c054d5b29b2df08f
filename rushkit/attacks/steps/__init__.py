"""Step rules of gradient attacks: each takes steps along the gradients that it is given, without access to a model."""
