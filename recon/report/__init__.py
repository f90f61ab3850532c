"""The report: figures, one self-contained page, and the viewer."""
