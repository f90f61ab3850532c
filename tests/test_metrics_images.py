import math

import pytest
import torch

from recon.images.metrics import image_metrics, mask_iou, mean_metrics


def images(n: int = 3, side: int = 16) -> torch.Tensor:
    return torch.rand(n, side, side, 3, generator=torch.Generator().manual_seed(0))


def test_equal_images_have_no_error() -> None:
    metrics = image_metrics(images(), images())
    assert metrics["mean_absolute_error"].tolist() == [0, 0, 0]
    assert metrics["psnr"].tolist() == pytest.approx([100] * 3)
    assert metrics["ssim"].tolist() == pytest.approx([1] * 3)


def test_a_constant_offset_is_the_error() -> None:
    target = 0.5 * images()
    metrics = image_metrics(target + 0.1, target)
    assert metrics["mean_absolute_error"].tolist() == pytest.approx([0.1] * 3, rel=1e-5)
    assert metrics["psnr"].tolist() == pytest.approx([20] * 3, rel=1e-5)


def test_both_images_are_clamped_first() -> None:
    white, brighter, darker = torch.ones(1, 12, 12, 3), torch.full((1, 12, 12, 3), 1.7), -torch.ones(1, 12, 12, 3)
    assert image_metrics(brighter, white)["mean_absolute_error"].item() == 0
    assert image_metrics(white, brighter)["mean_absolute_error"].item() == 0
    assert image_metrics(darker, white)["mean_absolute_error"].item() == 1


def test_views_are_measured_one_by_one() -> None:
    prediction, target = images(4), images(4).flip(0)
    together = image_metrics(prediction, target)
    for i in range(4):
        alone = image_metrics(prediction[i : i + 1], target[i : i + 1])
        for name, value in alone.items():
            assert together[name][i].item() == pytest.approx(value.item(), rel=1e-5)


@pytest.mark.parametrize("side", [2, 10, 11])
def test_ssim_is_undefined_below_its_window(side: int) -> None:
    ssim = image_metrics(images(2, side), images(2, side))["ssim"]
    assert ssim.shape == (2,)
    assert ssim.isnan().all() == (side < 11)


def test_a_prediction_that_is_no_number_shows() -> None:
    prediction = images(1)
    prediction[0, 3, 4, 1] = torch.nan
    assert image_metrics(prediction, images(1))["mean_absolute_error"].isnan()


def test_what_is_not_known_does_not_count() -> None:
    target = images(2)
    known = torch.ones(2, 16, 16, dtype=torch.bool)
    known[1, :, 12:] = False
    prediction = (target + 0.1).clamp(max=1)
    spoilt = torch.where(known[..., None], prediction, torch.nan)
    found, shown = image_metrics(spoilt, target, known), image_metrics(prediction[1:, :, :12], target[1:, :, :12])
    for name in ("mean_absolute_error", "psnr"):
        assert found[name][0].item() == pytest.approx(image_metrics(prediction, target)[name][0].item(), rel=1e-5)
        assert found[name][1].item() == pytest.approx(shown[name].item(), rel=1e-5)
    assert not found["ssim"].isnan().any() and found["ssim"][1] > image_metrics(0 * target, target)["ssim"][1]
    everything = image_metrics(prediction, target, torch.ones_like(known))
    for name, values in image_metrics(prediction, target).items():
        assert torch.allclose(everything[name], values, rtol=1e-6)
    alpha, masks = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    assert mask_iou(alpha, masks, torch.tensor([[[True, False, True]]])).item() == 1


def test_mask_iou_counts_pixels_that_are_half_covered() -> None:
    alpha = torch.tensor([[[1.0, 0.5, 0.4, 0.0]]])
    masks = torch.tensor([[[1.0, 0.0, 1.0, 0.0]]])
    assert mask_iou(alpha, masks).item() == pytest.approx(1 / 3)
    assert mask_iou(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)).item() == 1


def test_the_mean_is_over_views() -> None:
    mean = mean_metrics([{"psnr": 10.0, "ssim": 1.0}, {"psnr": 20.0, "ssim": math.nan}])
    assert mean["psnr"] == 15
    assert math.isnan(mean["ssim"])
