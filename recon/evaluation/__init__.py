"""Measuring a trained model: images, geometry, and the certificate of its mesh."""
