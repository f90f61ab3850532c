"""Triangle meshes: files, distances between two of them, and where one crosses itself."""
