"""The optimizers, each with the paper it came from."""
