"""Mutants of the renderer and the losses that no test can kill, and why: (module, function, change) -> reason.

A change of these lines makes new mutants, which are to be looked at anew.
"""

# ruff: noqa: E501

BORDER = "only saves work: for a closed mesh there is nothing to put right, and an edge's second face is never the first of the mesh"
FOLD = "at a silhouette the surface folds over: the third corners of both faces lie on the same side. The one seen is taken, as it alone does where the other has no area"
UNIT = "the direction to a distant light has length 1, up to rounding"
MASKED = "where nothing is seen the weight is 1 whatever was computed, and no gradient is taken"
HIDDEN = "differs for edges beyond the centre of the first pixel, which that pixel or its neighbour hides by the rules of `_visible`"
DEVICE = "on one device it moves nothing"
ALIAS = "autograd makes an alias of an input that is returned; the copy is what it asks for"
BELOW = "any negative number of a half edge gives face -1, halves rounded down"
MEMORY = "bounds the memory; the result is the same in any chunks"
TUNED = "a small number that could as well be another"
AXIS = "the last axis is the second"
MORE = "more work, the same result: fragments outside the face or pixels outside the picture are left out later"
SLACK = "a slack against rounding; it needs a coordinate within a ten thousandth of a pixel of a centre to matter"
TRUNCATED = "the count of columns is rounded down later"
SCALE = "all depths are compared in the same unit"
UNUSED = "a further row or column is not used"
STABLE = "equal keys come in the same order on the CPU at this size; stable for other devices"
STRICT = "there are three of both"
KEY = "numbers the pairs in another way"
FLAT = "differs for faces without an area on the screen, whose barycentric coordinates are no numbers"
TIES = "differs only where two numbers are exactly equal, and either answer is right"
AREA = "twice the area by other two edges of the same triangle"
SIGN = "1 / 1 and 1 / -1"

ACCEPTED: dict[tuple[str, str, str], str] = {
    (
        "recon/render/shade.py",
        "collocated_irradiance",
        "squared = (offset * offset).sum(-1)  =>  squared = (offset * offset).sum(1)",
    ): AXIS,
    (
        "recon/render/shade.py",
        "collocated_irradiance",
        "cosine = ((offset * normals).sum(-1) * squared.rsqrt()).clamp(min=0)  =>  cosine = ((offset * normals).sum(1) * squared.rsqrt()).clamp(min=0)",
    ): AXIS,
    (
        "recon/render/shade.py",
        "separate_irradiance",
        "squared = (offset * offset).sum(-1)  =>  squared = (offset * offset).sum(1)",
    ): AXIS,
    (
        "recon/render/shade.py",
        "separate_irradiance",
        "to_camera = torch.nn.functional.normalize(centers - points, dim=-1)  =>  to_camera = torch.nn.functional.normalize(centers - points, dim=1)",
    ): AXIS,
    (
        "recon/render/shade.py",
        "separate_irradiance",
        "half = torch.nn.functional.normalize(to_light + to_camera, dim=-1)  =>  half = torch.nn.functional.normalize(to_light + to_camera, dim=1)",
    ): AXIS,
    (
        "recon/render/shade.py",
        "separate_irradiance",
        "cosine = (to_light * normals).sum(-1).clamp(min=0)  =>  cosine = (to_light * normals).sum(1).clamp(min=0)",
    ): AXIS,
    (
        "recon/render/shade.py",
        "separate_irradiance",
        "irradiance = cosine / torch.where(near.squeeze(-1) > 0, squared, 1)  =>  irradiance = cosine / squared",
    ): UNIT,
    (
        "recon/render/shade.py",
        "separate_irradiance",
        "irradiance = cosine / torch.where(near.squeeze(-1) > 0, squared, 1)  =>  irradiance = cosine / torch.where(near.squeeze(-1) >= 0, squared, 1)",
    ): UNIT,
    (
        "recon/render/shade.py",
        "separate_irradiance",
        "irradiance = cosine / torch.where(near.squeeze(-1) > 0, squared, 1)  =>  irradiance = cosine / torch.where(near.squeeze(1) > 0, squared, 1)",
    ): AXIS,
    (
        "recon/render/shade.py",
        "separate_irradiance",
        "view, middle = ((to_camera * normals).sum(-1), (half * normals).sum(-1))  =>  view, middle = ((to_camera * normals).sum(1), (half * normals).sum(-1))",
    ): AXIS,
    (
        "recon/render/shade.py",
        "separate_irradiance",
        "view, middle = ((to_camera * normals).sum(-1), (half * normals).sum(-1))  =>  view, middle = ((to_camera * normals).sum(-1), (half * normals).sum(1))",
    ): AXIS,
    (
        "recon/render/shade.py",
        "separate_irradiance",
        "return (irradiance, cosine, Angles(view, middle, (half * to_camera).sum(-1)))  =>  return (irradiance, cosine, Angles(view, middle, (half * to_camera).sum(1)))",
    ): AXIS,
    ("recon/render/renderer.py", "", "MARGIN = 1  =>  MARGIN = 2"): MORE,
    (
        "recon/render/renderer.py",
        "render",
        "depth = details[3] / details[4].clamp(min=1e-12)  =>  depth = details[3] / details[4].clamp(min=2e-12)",
    ): TUNED,
    ("recon/background/losses.py", "", "FAINT = 0.001  =>  FAINT = 0.002"): TUNED,
    (
        "recon/background/losses.py",
        "outline_weights",
        "surface = rendering.radiance.flatten(0, 2).index_select(0, pixel) / seen.clamp(min=FAINT)[:, None]  =>  surface = rendering.radiance.flatten(0, 2).index_select(0, pixel) / seen[:, None]",
    ): MASKED,
    (
        "recon/background/losses.py",
        "outline_weights",
        "weight = (surface.mean(1) / contrast.clamp(min=1e-06)).clamp(1, LARGEST_WEIGHT)  =>  weight = (surface.mean(1) / contrast.clamp(min=2e-06)).clamp(1, LARGEST_WEIGHT)",
    ): TUNED,
    (
        "recon/background/losses.py",
        "outline_weights",
        "weight = torch.where((seen > FAINT) & (seen < 1), weight, 1)  =>  weight = torch.where((seen >= FAINT) & (seen < 1), weight, 1)",
    ): TIES,
    ("recon/training/losses.py", "loss_terms", "if config.fold or config.distortion:  =>  if True:"): BORDER,
    ("recon/training/losses.py", "sample_path", "vertex = vertex.to(stages[0].device)  =>  pass"): DEVICE,
    (
        "recon/training/losses.py",
        "normal_loss",
        "return (1 - (normals[first] * normals[second]).sum(-1)).mean()  =>  return (1 - (normals[first] * normals[second]).sum(1)).mean()",
    ): AXIS,
    (
        "recon/render/antialias.py",
        "antialias",
        "changing = torch.where(distance < 0.5, near, far)  =>  changing = torch.where(distance <= 0.5, near, far)",
    ): TIES,
    (
        "recon/render/antialias.py",
        "_on_lines",
        "flat = (x[1] - x[0]).abs() > (y[1] - y[0]).abs()  =>  flat = (x[1] - x[0]).abs() >= (y[1] - y[0]).abs()",
    ): TIES,
    (
        "recon/render/antialias.py",
        "_on_lines",
        "return OnLines(flat, inner < start[0] + slope[0] * (inner_across - across[0]), across, start, slope)  =>  return OnLines(flat, inner <= start[0] + slope[0] * (inner_across - across[0]), across, start, slope)",
    ): FLAT,
    (
        "recon/render/antialias.py",
        "_pairs",
        "low = (position - 0.5).floor().long()  =>  low = (position - 0.5).long()",
    ): HIDDEN,
    (
        "recon/render/antialias.py",
        "_pairs",
        "pairs = torch.stack([near, far, edge, line, lower * 2 + flat])  =>  pairs = torch.stack([near, far, edge, line, lower * 3 + flat])",
    ): KEY,
    (
        "recon/render/antialias.py",
        "_visible",
        "return at_near.isfinite() & (depth < at_far) & (at_near <= (depth + at_far) / 2)  =>  return at_near.isfinite() & (depth <= at_far) & (at_near <= (depth + at_far) / 2)",
    ): TIES,
    (
        "recon/render/antialias.py",
        "_visible",
        "return at_near.isfinite() & (depth < at_far) & (at_near <= (depth + at_far) / 2)  =>  return at_near.isfinite() & (depth < at_far) & (at_near < (depth + at_far) / 2)",
    ): TIES,
    (
        "recon/render/antialias.py",
        "_outermost",
        "order = (pair << 32 | distance.float().view(torch.int32)).argsort(stable=True)  =>  order = (pair << 33 | distance.float().view(torch.int32)).argsort(stable=True)",
    ): KEY,
    (
        "recon/render/antialias.py",
        "_outermost",
        "order = (pair << 32 | distance.float().view(torch.int32)).argsort(stable=True)  =>  order = (pair << 32 | distance.float().view(torch.int32)).argsort(stable=False)",
    ): STABLE,
    (
        "recon/render/antialias.py",
        "_jacobian",
        "across, depth, (along, slope) = (table[:2], table[2:4], table[4:])  =>  across, depth, (along, slope) = (table[:3], table[2:4], table[4:])",
    ): UNUSED,
    (
        "recon/render/antialias.py",
        "_jacobian",
        "weights = torch.stack([1 - share, share]) * (2.0 * before - 1) / depth  =>  weights = torch.stack([1 - share, share]) / (2.0 * before - 1) / depth",
    ): SIGN,
    ("recon/render/antialias.py", "_WithJacobian.forward", "return values.clone()  =>  return values"): ALIAS,
    (
        "recon/render/edges.py",
        "_build",
        "order = edge.argsort(stable=True)  =>  order = edge.argsort(stable=False)",
    ): STABLE,
    (
        "recon/render/edges.py",
        "_build",
        "second = torch.where(paired, second, -1)  =>  second = torch.where(paired, second, -2)",
    ): BELOW,
    ("recon/render/rasterize.py", "", "MAX_FRAGMENTS = 1 << 22  =>  MAX_FRAGMENTS = 2 << 22"): MEMORY,
    ("recon/render/rasterize.py", "", "MAX_FRAGMENTS = 1 << 22  =>  MAX_FRAGMENTS = 1 << 23"): MEMORY,
    ("recon/render/rasterize.py", "", "INSIDE_TOLERANCE = 1e-05  =>  INSIDE_TOLERANCE = 2e-05"): TUNED,
    ("recon/render/rasterize.py", "", "NEAR = 0.0001  =>  NEAR = 0.0002"): TUNED,
    (
        "recon/render/rasterize.py",
        "on_screen",
        "(x1, y1, _), (x2, y2, _) = (corners[1] - corners[0], corners[2] - corners[0])  =>  (x1, y1, _), (x2, y2, _) = (corners[1] - corners[0], corners[2] - corners[1])",
    ): AREA,
    ("recon/render/rasterize.py", "outside", "return area < 0  =>  return area <= 0"): FLAT,
    (
        "recon/render/rasterize.py",
        "visible_faces",
        "candidate &= outside(mesh.area) if cull else mesh.area != 0  =>  candidate &= outside(mesh.area) if cull else mesh.area != 1",
    ): FLAT,
    (
        "recon/render/rasterize.py",
        "visible_faces",
        "inside = (b0 >= -INSIDE_TOLERANCE) & (b1 >= -INSIDE_TOLERANCE) & (b0 + b1 <= 1 + INSIDE_TOLERANCE)  =>  inside = (b0 > -INSIDE_TOLERANCE) & (b1 >= -INSIDE_TOLERANCE) & (b0 + b1 <= 1 + INSIDE_TOLERANCE)",
    ): TIES,
    (
        "recon/render/rasterize.py",
        "visible_faces",
        "inside = (b0 >= -INSIDE_TOLERANCE) & (b1 >= -INSIDE_TOLERANCE) & (b0 + b1 <= 1 + INSIDE_TOLERANCE)  =>  inside = (b0 >= -INSIDE_TOLERANCE) & (b1 > -INSIDE_TOLERANCE) & (b0 + b1 <= 1 + INSIDE_TOLERANCE)",
    ): TIES,
    (
        "recon/render/rasterize.py",
        "visible_faces",
        "inside = (b0 >= -INSIDE_TOLERANCE) & (b1 >= -INSIDE_TOLERANCE) & (b0 + b1 <= 1 + INSIDE_TOLERANCE)  =>  inside = (b0 >= -INSIDE_TOLERANCE) & (b1 >= -INSIDE_TOLERANCE) & (b0 + b1 < 1 + INSIDE_TOLERANCE)",
    ): TIES,
    (
        "recon/render/rasterize.py",
        "visible_faces",
        "depth_bits = (1 / inverse_depth.index_select(0, kept)).float().view(torch.int32).long()  =>  depth_bits = (2 / inverse_depth.index_select(0, kept)).float().view(torch.int32).long()",
    ): SCALE,
    (
        "recon/render/rasterize.py",
        "_pixel_ranges",
        "first = (low[:2] - (0.5 + 0.0001)).ceil_().clamp_(min=0)  =>  first = (low[:2] - (0.5 + 0.0001)).floor_().clamp_(min=0)",
    ): MORE,
    (
        "recon/render/rasterize.py",
        "_pixel_ranges",
        "first = (low[:2] - (0.5 + 0.0001)).ceil_().clamp_(min=0)  =>  first = (low[:2] - (0.5 - 0.0001)).ceil_().clamp_(min=0)",
    ): SLACK,
    (
        "recon/render/rasterize.py",
        "_pixel_ranges",
        "first = (low[:2] - (0.5 + 0.0001)).ceil_().clamp_(min=0)  =>  first = (low[:2] - (1.0 + 0.0001)).ceil_().clamp_(min=0)",
    ): MORE,
    (
        "recon/render/rasterize.py",
        "_pixel_ranges",
        "first = (low[:2] - (0.5 + 0.0001)).ceil_().clamp_(min=0)  =>  first = (low[:2] - (0.5 + 0.0002)).ceil_().clamp_(min=0)",
    ): SLACK,
    (
        "recon/render/rasterize.py",
        "_pixel_ranges",
        "last = (high - (0.5 - 0.0001)).floor_()  =>  last = (high - (0.5 - 0.0001)).ceil_()",
    ): MORE,
    (
        "recon/render/rasterize.py",
        "_pixel_ranges",
        "last = (high - (0.5 - 0.0001)).floor_()  =>  last = high - (0.5 - 0.0001)",
    ): TRUNCATED,
    (
        "recon/render/rasterize.py",
        "_pixel_ranges",
        "last = (high - (0.5 - 0.0001)).floor_()  =>  last = (high + (0.5 - 0.0001)).floor_()",
    ): MORE,
    (
        "recon/render/rasterize.py",
        "_pixel_ranges",
        "last = (high - (0.5 - 0.0001)).floor_()  =>  last = (high - (0.5 + 0.0001)).floor_()",
    ): SLACK,
    (
        "recon/render/rasterize.py",
        "_pixel_ranges",
        "last = (high - (0.5 - 0.0001)).floor_()  =>  last = (high - (0.5 - 0.0002)).floor_()",
    ): SLACK,
    (
        "recon/render/rasterize.py",
        "_pixel_ranges",
        "return (first, last, columns & rows & (low[2] > NEAR))  =>  return (first, last, columns & rows & (low[2] >= NEAR))",
    ): TIES,
    (
        "recon/render/rasterize.py",
        "_planes",
        "last, *others = (1 / corner[2] for corner in (corners[2], *corners[:2]))  =>  last, *others = (2 / corner[2] for corner in (corners[2], *corners[:2]))",
    ): SCALE,
    (
        "recon/render/rasterize.py",
        "_planes",
        "last, *others = (1 / corner[2] for corner in (corners[2], *corners[:2]))  =>  last, *others = (1 / corner[2] for corner in (corners[2], *corners[:3]))",
    ): UNUSED,
    (
        "recon/render/rasterize.py",
        "_chunks",
        "if int(ends[-1]) <= MAX_FRAGMENTS:  =>  if int(ends[-1]) < MAX_FRAGMENTS:",
    ): MEMORY,
    (
        "recon/render/intersect.py",
        "_shared_out",
        "for corner, share in zip(corners, bary, strict=True):  =>  for corner, share in zip(corners, bary, strict=False):",
    ): STRICT,
    (
        "recon/camera.py",
        "Cameras.project",
        "world_to_camera = self.camera_to_world[:, :3, :3].mT  =>  world_to_camera = self.camera_to_world[:, :3, :4].mT",
    ): UNUSED,
    (
        "recon/render/silhouettes.py",
        "silhouettes",
        "sides = edges.faces.T if edges.closed else edges.faces.T.clamp(min=0)  =>  sides = edges.faces.T.clamp(min=0)",
    ): BORDER,
    ("recon/render/silhouettes.py", "silhouettes", "if not edges.closed:  =>  if True:"): BORDER,
    (
        "recon/render/silhouettes.py",
        "silhouettes",
        "second = second & (edges.faces[:, 1] >= 0)  =>  second = second & (edges.faces[:, 1] > 0)",
    ): BORDER,
    (
        "recon/render/silhouettes.py",
        "silhouettes",
        "second = second & (edges.faces[:, 1] >= 0)  =>  second = second & (edges.faces[:, 1] >= 1)",
    ): BORDER,
    (
        "recon/render/silhouettes.py",
        "silhouettes",
        "opposite = torch.where(first.flatten().index_select(0, turning), of_first, of_second)  =>  opposite = of_first",
    ): FOLD,
    (
        "recon/render/silhouettes.py",
        "silhouettes",
        "kept = ((right >= 0) & (left <= width) & (below >= 0) & (above <= height) & (nearest > NEAR)).nonzero().squeeze(1)  =>  kept = ((right > 0) & (left <= width) & (below >= 0) & (above <= height) & (nearest > NEAR)).nonzero().squeeze(1)",
    ): TIES,
    (
        "recon/render/silhouettes.py",
        "silhouettes",
        "kept = ((right >= 0) & (left <= width) & (below >= 0) & (above <= height) & (nearest > NEAR)).nonzero().squeeze(1)  =>  kept = ((right >= 0) & (left < width) & (below >= 0) & (above <= height) & (nearest > NEAR)).nonzero().squeeze(1)",
    ): TIES,
    (
        "recon/render/silhouettes.py",
        "silhouettes",
        "kept = ((right >= 0) & (left <= width) & (below >= 0) & (above <= height) & (nearest > NEAR)).nonzero().squeeze(1)  =>  kept = ((right >= 0) & (left <= width) & (below > 0) & (above <= height) & (nearest > NEAR)).nonzero().squeeze(1)",
    ): TIES,
    (
        "recon/render/silhouettes.py",
        "silhouettes",
        "kept = ((right >= 0) & (left <= width) & (below >= 0) & (above <= height) & (nearest > NEAR)).nonzero().squeeze(1)  =>  kept = ((right >= 0) & (left <= width) & (below >= 0) & (above < height) & (nearest > NEAR)).nonzero().squeeze(1)",
    ): TIES,
    (
        "recon/render/silhouettes.py",
        "silhouettes",
        "kept = ((right >= 0) & (left <= width) & (below >= 0) & (above <= height) & (nearest > NEAR)).nonzero().squeeze(1)  =>  kept = ((right >= 0) & (left <= width) & (below >= 0) & (above <= height) & (nearest >= NEAR)).nonzero().squeeze(1)",
    ): TIES,
}
