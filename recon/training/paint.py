"""Whether the surface has paint at all: the simplest reflectance that explains the photographs is kept.

On an object of one albedo, textures explain what is shape: its unseen and grazing sides come out worse with them. On
one of several, shape explains what is paint while there are no textures. So the training looks at what coarse textures
have found, and what one albedo or they leave:

    much contrast between large parts                 ->  finer textures begin, early
    at the end of their time little, and little error ->  one albedo; the textures are laid aside
    else                                              ->  finer textures begin

and at two later looks, when the shape can explain more, takes the textures up again where one albedo leaves too much.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from recon.model.model import Model, SurfaceMesh
from recon.model.reflectance import VaryingReflectance
from recon.render.renderer import Shader, render
from recon.render.shade import Angles
from recon.training.data import TrainingData
from recon.training.outcome import COVERED

EARLY = (0.15, 0.2, 0.25, 0.3)
"""Fractions of the surface's schedule at which fine textures may begin: paint that varies over large parts bends the
shape as long as few texels have to show it, and fine paint does not."""

LATER = ((0.25, 0.4), (0.45, 0.25))
"""Of the schedule that is left after coarse paint had its time: when it is looked again, and the share of `least` that
one albedo may leave by then, for shapes are better known."""

MOST_VIEWS = 8
"""That a look renders."""

WINDOW = 3
"""Pixels along a side over which errors are averaged, so that noise counts less than paint."""


class Contrast(NamedTuple):
    """What a look finds where the surface alone is seen, weighted by brightness; 0 where it is seen nowhere.

    error: mean absolute difference from the photographs, relative to them. spread: standard deviation of the
    logarithm of the albedo. log_albedo: its mean.
    """

    error: float
    spread: float
    log_albedo: Float[Tensor, " 3"]


class PaintLooks:
    """Decides, for one training, whether and from when on its reflectance has fine textures; networks are left alone.

    Attributes:
        released: whether fine textures have begun before their time.
    """

    def __init__(self, model: Model) -> None:
        config, self._looks, self.released = model.config, 0, False
        self._ends = config.train.constant_albedo
        times = [*(at for at in EARLY if at < self._ends), self._ends, *(self._later(after) for after, _ in LATER)]
        self._times = times if model.reflectance.textured and config.texture.least > 0 else []

    def is_due(self, fraction: float) -> bool:
        """Whether there is something to look at, at this fraction of the surface's schedule."""
        return sum(fraction >= at for at in self._times) > self._looks

    def look(
        self,
        model: Model,
        optimizer: torch.optim.Optimizer,
        data: TrainingData,
        images: Float[Tensor, "n h w 3"],
        level: int,
        fraction: float,
    ) -> None:
        """Decide what is due.

        Args:
            optimizer: of the model; its averages of textures that are laid aside are forgotten.
            data: the training views.
            images: theirs, with what strengths of the light did to them undone.
            level: of the icosphere that is looked at.
            fraction: of the surface's schedule.
        """
        self._looks = sum(fraction >= at for at in self._times)
        least, reflectance = model.config.texture.least, model.reflectance
        shares = [share for after, share in LATER if fraction >= self._later(after)]
        assert isinstance(reflectance, VaryingReflectance)
        if self.released or (shares and not reflectance.uniform):
            return
        found = contrast(model, data, images, level)
        if fraction < self._ends:
            self.released = found.spread > least
        elif shares:
            reflectance.uniform = found.error <= shares[-1] * least
        elif reflectance.may_be_uniform and found.error <= least and found.spread <= least:
            reflectance.make_uniform(found.log_albedo)
            forget(optimizer, reflectance.textures())

    def _later(self, after: float) -> float:
        return self._ends + (1 - self._ends) * after

    def state_dict(self, model: Model) -> dict[str, Any]:
        return {"looks": self._looks, "released": self.released, "uniform": model.reflectance.uniform}

    def load_state_dict(self, state: Mapping[str, Any], model: Model) -> None:
        self._looks, self.released = state["looks"], state["released"]
        model.reflectance.uniform = state["uniform"]


@torch.no_grad()
def contrast(model: Model, data: TrainingData, images: Float[Tensor, "n h w 3"], level: int) -> Contrast:
    """What the surface's albedo explains and how it varies, in some of the training views.

    The error is infinite where the surface is seen nowhere.
    """
    mesh = model.mesh(level)
    views = range(0, len(data), -(-len(data) // MOST_VIEWS))
    sums = torch.stack([_sums(model, mesh, data, images[view], view) for view in views]).sum(dim=0)
    lost, shown, weight = sums[0, :3]
    if weight == 0 or shown == 0:
        return Contrast(math.inf, 0.0, model.reflectance.log_albedo.detach().clone())
    mean, squares = sums[1:] / weight
    spread = (squares - mean.square()).clamp(min=0).sqrt().max()
    return Contrast((lost / shown).item(), spread.item(), mean)


def _sums(
    model: Model, mesh: SurfaceMesh, data: TrainingData, image: Float[Tensor, "h w 3"], view: int
) -> Float[Tensor, "3 3"]:
    """Of one view: error, brightness and weight; and the weighted logarithm of the albedo, and its square."""
    batch = data.batch(torch.tensor([view], device=model.device))
    cameras = model.poses.corrected(batch.cameras, batch.views)
    rendering = model.render_surface(mesh, cameras)
    alone = (rendering.alpha > COVERED).float()[..., None]
    if batch.weights is not None:
        alone = alone * batch.weights[..., None]
    inside = averaged(alone) > COVERED
    error = averaged((rendering.radiance - image) * alone).abs() * inside
    brightness = averaged(image[None]) * inside
    seen = render(mesh.vertices, mesh.faces, cameras, albedo=mesh.attributes, shader=_paint(model), antialias=False)
    weight = rendering.radiance.mean(dim=3, keepdim=True) * alone
    log_albedo = (weight * seen.radiance).sum(dim=(0, 1, 2))
    squares = (weight * seen.radiance.square()).sum(dim=(0, 1, 2))
    return torch.stack([torch.stack([error.sum(), brightness.sum(), weight.sum()]), log_albedo, squares])


def _paint(model: Model) -> Shader:
    def log_albedo(
        attributes: Float[Tensor, "p k"],
        irradiance: Float[Tensor, " p"],
        cosine: Float[Tensor, " p"],
        angles: Angles | None = None,
    ) -> Float[Tensor, "p 3"]:
        return model.reflectance.parameters_of(attributes)[:, :3].log()

    return log_albedo


def averaged(picture: Float[Tensor, "n h w c"]) -> Float[Tensor, "n a b c"]:
    """Means of whole windows of `WINDOW` pixels."""
    return avg_pool2d(picture.permute(0, 3, 1, 2), min(WINDOW, *picture.shape[1:3]), stride=1).permute(0, 2, 3, 1)


def forget(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
    """Have Adam's averages of these parameters as they were at its start."""
    for parameter in parameters:
        for name in ("exp_avg", "exp_avg_sq"):
            if name in optimizer.state[parameter]:
                optimizer.state[parameter][name].zero_()
