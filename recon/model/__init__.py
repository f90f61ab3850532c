"""What is learned, as one thing: surface, reflectance and background; saved, loaded, and as meshes of any level."""
