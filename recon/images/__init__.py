"""Pictures: linear radiance read from photographs, written for screens, and compared."""
