"""Drafts of JPEG photographs, and decoded images in a folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.decoding import Decoding, PixelFolder, read_image
from data.images import ImageSet, ImageStream
from data.registry import find_set
from data.transforms import test_transform as plain_transform
from tests.forgetting import FORGET, MEADOW
from tests.support import experiment, lethe, only_run, outcome

SIZE = 16 * 16 * 3


def photograph(file: Path, width: int = 1600, height: int = 1200, subsampling: int = 0, **options) -> Path:
    """Waves of different lengths and a hard edge, as a JPEG."""
    y, x = np.mgrid[:height, :width].astype(float)
    channels = [np.sin(x / 31) + np.cos(y / 57), np.sin((x + y) / 83), np.sign(x - y) * np.cos(x / 200)]
    levels = [(127 + 60 * channel).clip(0, 255).astype(np.uint8) for channel in channels]
    Image.fromarray(np.stack(levels, -1)).save(file, "JPEG", quality=95, subsampling=subsampling, **options)
    return file


@pytest.mark.parametrize(
    ("side", "height", "width"),
    [(None, 1200, 1600), (601, 1200, 1600), (600, 600, 800), (224, 300, 400), (1, 150, 200)],
)
def test_a_draft_is_the_smallest_that_is_large_enough(tmp_path, side, height, width):
    assert read_image(photograph(tmp_path / "a.jpg"), side).shape == (3, height, width)


@pytest.mark.parametrize("subsampling", [0, 2])  # colours whole, or at half the size, as cameras store them
def test_a_draft_has_the_means_of_the_whole_pictures_blocks(tmp_path, subsampling):
    file = photograph(tmp_path / "a.jpg", subsampling=subsampling)
    whole, draft = (read_image(file, side).double() for side in (None, 224))
    blocks = whole.reshape(3, 300, 4, 400, 4).mean((2, 4))
    apart = (blocks - draft).abs()
    assert apart.mean() < 0.5  # of 255 levels; rounding alone makes a quarter


def test_what_a_tower_sees_of_a_draft_is_what_it_sees_of_the_whole_picture(tmp_path):
    file, look = photograph(tmp_path / "a.jpg"), plain_transform(224, "bicubic", 0.875)
    whole, draft = (look(read_image(file, side)).double() for side in (None, 256))
    assert whole.std() > 30
    assert (whole - draft).abs().mean() < 1 and (whole - draft).square().mean().sqrt() < 2.5


def test_a_draft_stands_upright_and_other_formats_stay_whole(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photograph(tmp_path / "a.jpg", exif=exif)
    assert read_image(turned, 224).shape == (3, 400, 300)
    Image.open(turned).convert("L").save(tmp_path / "grey.jpg")
    assert read_image(tmp_path / "grey.jpg", 224).shape == (3, 300, 400)
    Image.open(turned).save(tmp_path / "a.png", exif=Image.Exif())
    assert read_image(tmp_path / "a.png", 224).shape == (3, 1200, 1600)


# a folder of decoded images


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The files that have been decoded since."""
    files = []
    monkeypatch.setattr("data.decoding.read_image", lambda file, side: files.append(file) or read_image(file, side))
    return files


def test_what_one_process_has_decoded_another_reads(pets, tmp_path, decoded):
    file, other = pets.file("train", 0), pets.file("train", 1)
    for _ in range(2):
        folder = PixelFolder(tmp_path / "made" / "pixels", 1.0)
        for each in (file, other):
            pixels = Decoding(folder=folder).read(each)
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(Image.open(each)))
            assert pixels.dtype == torch.uint8 and pixels.is_contiguous()
    assert decoded == [file, other]
    assert len([path for path in tmp_path.glob("made/pixels/**/*") if path.is_file()]) == 2  # nothing half-written
    assert Decoding(folder=folder).there([file, other, pets.file("train", 2), Path("nowhere")]) == 2
    assert Decoding(folder=folder, jpeg_side=8).there([file, other]) == Decoding().there([file]) == 0


def test_a_file_that_was_changed_or_cut_is_decoded_anew(draw_set, tmp_path, decoded):
    file = draw_set(tmp_path).file("train", 0)
    folder = PixelFolder(tmp_path / "pixels", 1.0)
    before = folder.read(file, None)
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    assert torch.equal(folder.read(file, None), 255 - before)
    for kept in (tmp_path / "pixels").glob("*/*.npy"):
        kept.write_bytes(kept.read_bytes()[:-5])
    assert torch.equal(folder.read(file, None), 255 - before)
    assert torch.equal(folder.read(file, None), 255 - before)
    assert len(decoded) == 3


HEAD = 128  # bytes of a .npy before the pixels


def test_a_folder_grows_no_larger_than_its_limit(pets, tmp_path, decoded):
    files, limit = [pets.file("train", position) for position in range(5)], (2.5 * SIZE + 2 * HEAD) / 2**30
    folder = PixelFolder(tmp_path / "pixels", limit)
    for _ in range(2):
        for file in files[:4]:
            folder.read(file, None)
    assert decoded == files[:4] + files[2:4]
    for each in (PixelFolder(tmp_path / "pixels", limit), PixelFolder(tmp_path / "pixels", 0.0)):
        each.read(files[4], None)  # what stands there counts, too
    assert [folder.holds(file, None) for file in files] == [True, True, False, False, False]
    PixelFolder(tmp_path / "pixels", limit + SIZE / 2**30).read(files[4], None)
    assert folder.holds(files[4], None)


def test_workers_of_all_passes_share_the_limit(pets, tmp_path, monkeypatch):
    monkeypatch.setattr("data.images.WORTH", 0)
    decoding = Decoding(0.0, PixelFolder(tmp_path / "pixels", 6.5 * SIZE / 2**30))
    images = ImageSet(pets, "train", range(20), {"fine": torch.arange(20)}, decoding)
    for _ in range(3):
        list(ImageStream(images, range(20), plain_transform(8, "bilinear", 1.0), False, 2).batches(4, 0))
    assert len(list((tmp_path / "pixels").glob("*/*"))) == 6


def test_a_folder_that_cannot_be_written_is_said_once_and_images_come(pets, tmp_path, caplog):
    (tmp_path / "pixels").write_text("a file")
    folder = PixelFolder(tmp_path / "pixels", 1.0)
    for position in range(3):
        assert torch.equal(folder.read(pets.file("train", position), None), read_image(pets.file("train", position)))
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith(f"{tmp_path / 'pixels'}: cannot be written (")


def test_a_purge_takes_images_out_of_the_folder_for_all(pets, tmp_path, decoded):
    sets = [
        ImageSet(
            pets, "train", range(6), {"fine": torch.zeros(6)}, Decoding(folder=PixelFolder(tmp_path / "pixels", 1.0))
        )
        for _ in range(2)
    ]
    for item in range(6):
        sets[0].image(item)
    sets[0].drop([0])
    sets[0].purge([4, 5])
    for item in range(6):
        sets[1].image(item)
    assert decoded == [pets.file("train", position) for position in (0, 1, 2, 3, 4, 5, 4, 5)]


def test_a_purge_takes_every_size_and_age_of_an_image_and_no_other(tmp_path):
    folder, files = PixelFolder(tmp_path / "pixels", 1.0), [photograph(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    for file in files:
        for side in (None, 224):
            folder.read(file, side)
    folder.read(photograph(files[0], width=1300), None)
    (cut,) = {place.with_name(f"{place.stem}-7-8.part") for place in [folder._place(files[0], None)]}
    cut.write_bytes(b"of a process that was killed")
    assert len(list((tmp_path / "pixels").glob("*/*"))) == 6
    folder.remove(files[0])
    folder.remove(tmp_path / "never there.jpg")
    assert len(list((tmp_path / "pixels").glob("*/*"))) == 2
    assert [folder.holds(files[1], side) for side in (None, 224)] == [True, True]


def test_the_log_says_what_the_folder_held(pets, tmp_path, caplog):
    decoding = Decoding(0.0, PixelFolder(tmp_path / "pixels", 1.0))
    images = ImageSet(pets, "train", range(8), {"fine": torch.zeros(8)}, decoding)
    images.image(3)
    images.limit = 2**20
    with caplog.at_level("INFO", "lethe"):
        images.fill(range(8), 2)
    line = f"pets, train: 1 of 8 were decoded before, in {tmp_path / 'pixels'}"
    assert [record.getMessage() for record in caplog.records][1] == line


def test_neither_the_folder_nor_workers_change_a_bit(pets, tmp_path, monkeypatch):
    monkeypatch.setattr("data.images.WORTH", 0)
    folder, labels = PixelFolder(tmp_path / "pixels", 1.0), {"fine": torch.arange(13)}
    passes = []
    for decoding, workers in ((Decoding(), 0), (Decoding(0.0, folder), 2), (Decoding(1.0, folder), 2)):
        images = ImageSet(pets, "train", range(13), labels, decoding)
        look = plain_transform(8, "bilinear", 1.0)
        batches = ImageStream(images, range(13), look, True, workers).batches(4, 9)
        passes.append(torch.cat([batch["image"] for batch in batches]))
    assert torch.equal(passes[0], passes[1]) and torch.equal(passes[0], passes[2])


def test_runs_share_a_folder_that_forgets_with_them(workplace, decoded):
    found = []
    for logs, changes in (("without", {}), ("first", {"cache_dir": "pixels"}), ("second", {"cache_dir": "pixels"})):
        decoded.clear()
        assert lethe("--config", experiment(FORGET | {"cache_gb": 0}, logs=logs, **changes)) == 0
        found.append((list(outcome(only_run(Path(logs)))), set(decoded)))
    (without, _), (first, shown), (second, again) = found
    assert without == first == second
    toymini = find_set("toymini", Path("data/sets"))
    records = enumerate(toymini.splits["train"])
    forgotten = {toymini.file("train", at) for at, record in records if record.fine == MEADOW}
    assert again == shown & forgotten and len(again) == 4  # those alone that the first run has forgotten
