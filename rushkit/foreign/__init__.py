"""Read other people's files of weights: bounded in every size, and without running any code in them."""
