"""What counts as black, said once: for the frame, for crops, for masks and for the field."""

BLACK = 5e-3
"""Radiance up to which a pixel counts as black, where the brightest is 1.

A veil of this brightness is nothing: extraction finds the object before it, a crop that holds only it is empty, light
outside masks is left as it is, and a field has nothing to explain.
"""
