"""The differentiable renderer: from a mesh and cameras to linear pictures, with gradient to the vertices.

`renderer.render` is the way in. It goes through these steps, a module each:

    rasterize     which face every pixel sees                            (no gradient)
    intersect     where on that face, and at what depth                  (gradient of what lies inside outlines)
    normals       normals of faces and vertices
    shade         the light that arrives there
    edges         which edges the mesh has
    silhouettes   at which of them the surface turns away in a picture
    antialias     blends the pixels on both sides of these               (gradient of visibility)
    box_filter    averages samples to pixels

Those steps are in torch, on any device and in any precision. `compiled` has them for a CPU and `kernels` for a CUDA
device, where trials say that they serve. `pytorch3d` is the renderer of the reference work, for comparison.

Arrays of points have their coordinates first, (3, p) rather than (p, 3), wherever a pixel or a face is a point: each
coordinate is then contiguous in memory, and products and sums over coordinates run over long rows. Between modules
`n` counts cameras, `v` vertices, `f` faces, `p` pixels that see the mesh, `k` attributes or chosen edges.
"""
