"""What a tower looks at of an image, on images whose result is known."""

import pytest
import torch

from data import transforms


def plain(height: int, width: int, value=(255, 0, 51)) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.uint8)[:, None, None].expand(3, height, width).contiguous()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(40, 64), (17, 9)])
def test_size_and_levels(interpolation, shape):
    for transform in (
        transforms.test_transform(16, interpolation, 0.875),
        transforms.train_transform(16, interpolation, (0.05, 1.0), flip=True),
    ):
        assert torch.equal(transform(plain(*shape)), plain(16, 16))


def test_the_centre_of_the_short_side():
    image = torch.zeros(3, 20, 40, dtype=torch.uint8)
    image[:, :, 10:30] = 255  # the centre square of the resized image, and nothing else
    crop = transforms.test_transform(20, "bilinear", 1.0)(image)
    assert torch.equal(crop, plain(20, 20, (255, 255, 255)))


def test_the_share_of_the_centre_crop():
    image = torch.arange(32, dtype=torch.uint8).expand(3, 32, 32).contiguous()
    crop = transforms.test_transform(28, "bilinear", 0.875)(image)
    assert torch.equal(crop, image[:, 2:30, 2:30])  # 28 / 0.875 = 32


def test_training_crops_follow_torchs_generator_and_flip_only_if_wanted():
    image = torch.arange(32, dtype=torch.uint8).mul(8).expand(3, 32, 32).contiguous()  # grows to the right
    flipping = transforms.train_transform(8, "bilinear", (0.5, 1.0), flip=True)
    straight = transforms.train_transform(8, "bilinear", (0.5, 1.0), flip=False)

    def seeded(transform, seed):
        torch.manual_seed(seed)
        return transform(image)

    assert torch.equal(seeded(flipping, 1), seeded(flipping, 1))
    assert not torch.equal(seeded(straight, 1), seeded(straight, 2))
    rises = [bool(seeded(flipping, seed)[0, 0, -1] > seeded(flipping, seed)[0, 0, 0]) for seed in range(40)]
    assert 8 < sum(rises) < 32
    assert all(seeded(straight, seed)[0, 0, -1] > seeded(straight, seed)[0, 0, 0] for seed in range(40))
    whole = transforms.train_transform(32, "bilinear", (1.0, 1.0), flip=False)
    assert torch.equal(whole(image), image)


def test_a_crops_share_and_shape():
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[0], image[1] = torch.arange(32), torch.arange(32)[:, None]
    options = {"crop_scale": (0.25, 0.25), "crop_ratio": (4, 4), "flip": False}  # 32 wide and 8 high
    crop = transforms.train_transform(32, "bilinear", **options)
    starts = set()
    for seed in range(20):
        torch.manual_seed(seed)
        across, down = crop(image)[:2]
        assert torch.equal(across, image[0]) and down.max() - down.min() == 7
        starts.add(down.min().item())
    assert len(starts) > 5


def test_an_unknown_interpolation():
    with pytest.raises(ValueError, match="cubist"):
        transforms.test_transform(8, "cubist", 1.0)
