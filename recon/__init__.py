"""recon: closed, manifold meshes and their reflectance from flash photographs."""

__version__ = "0.1.0"
