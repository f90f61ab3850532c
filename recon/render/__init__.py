"""The renderer: rasterisation, analytic edge antialiasing, collocated-light shading."""
