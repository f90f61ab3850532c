"""The surface: a unit icosphere carried by a learned diffeomorphic flow."""
