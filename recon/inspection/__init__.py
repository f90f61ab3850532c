"""What a person wants to know of a viewpoint set before hours of training on it."""
