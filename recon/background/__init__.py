"""What lies outside the unit sphere: a radiance field lit by the camera's flash."""
