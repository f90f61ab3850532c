"""Fitting a model to one viewpoint set."""
