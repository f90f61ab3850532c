"""recon: closed, manifold meshes and their reflectance from flash photographs."""

import os

# Threads that wait for one another sleep rather than spin: beside other work, spinning costs many times what it gains.
# It has to be said before torch is imported, and whoever has said otherwise is heeded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
