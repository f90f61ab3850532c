"""The renderer's inner loops compiled by Numba, for training on a CPU.

    parts        work on parts, side by side
    rasterize    which face every sample sees
    surface      where on that face, what is interpolated there, and the light of the camera's flash
    light        that of other lights
    picture      averages samples to pixels, and blends those on both sides of silhouettes
    samples      all of that together: pictures of a mesh
    vectors      what loops compute with three numbers of a point
    cache        where the loops are kept

They follow `recon.render.rasterize`, `intersect`, `normals`, `shade`, `box_filter` and `antialias` rule by rule; those
say why. In torch each of these is a dozen passes over arrays of millions of numbers. Here a sample that sees the mesh
goes its whole way in registers, forward and, computed once more, backward; all that is kept for that is which samples
see something, and which face.

Products and sums are not fused to single roundings: the rasteriser sees the same faces as in torch, bit for bit, and
nothing depends on what a processor can fuse. Sums over samples are in another order than torch's. They do not depend on
how many threads there are: a view is one thread's, and sums over views are in the views' order.
"""

from recon.render.compiled.cache import keep_by_content

keep_by_content()
