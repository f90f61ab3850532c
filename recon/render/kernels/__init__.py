"""The renderer's inner loops as Triton kernels, for training on a CUDA device.

    topology     what kernels know of a mesh's connectivity, cached
    sums         sums at vertices of what their corners or edges have
    rasterize    which face every sample sees
    surface      where on that face, and what is interpolated there
    antialias    blends the samples on both sides of silhouettes
    samples      all of that together: pictures of a mesh
    serving      whether they do so on this device, as `recon.render.trial` finds out

They follow `recon.render.rasterize`, `intersect`, `normals` and `antialias` rule by rule; those say why. Shapes follow
from the sizes of mesh and pictures alone, never from what is seen: so an iteration launches the same kernels with the
same arguments every time, and can be recorded as a CUDA graph. And nothing depends on which thread comes first: the
only atomic operations are minima and maxima of integers, and sums run in a fixed order. So two runs on one machine are
equal bit for bit.

Triton comes with torch's CUDA wheels; nothing else in recon imports it, and here it is imported only once a kernel is
wanted. Products and sums are not fused to single roundings, so that results are those of torch's own operations.
`TRITON_INTERPRET=1` runs the kernels on a CPU, slowly, as the tests do.
"""
