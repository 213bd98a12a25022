"""Image files of every kind that people have, written by Pillow as the independent party."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from salgan_edge import images
from salgan_edge.errors import ImageError, OutputError
from salgan_edge.image_header import read_header


@pytest.fixture
def pixels():
    rows, columns = np.mgrid[0:40, 0:60]
    return np.stack([rows * 6, columns * 4, 255 - rows - columns], axis=-1).astype(np.uint8)


def test_rgb_order_and_shape(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = images.read_image(tmp_path / "a.png")
    assert read.dtype == np.uint8
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, pixels, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=98, subsampling=0)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")).convert("RGB")).astype(int)
    read = images.read_image(tmp_path / "a.jpg").astype(int)
    assert read.shape == expected.shape
    assert np.abs(read - expected).max() <= 3


def test_grey(tmp_path, pixels):
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.png")
    read = images.read_image(tmp_path / "a.png")
    assert np.array_equal(read, np.repeat(pixels[..., :1], 3, axis=2))


def test_sixteen_bit(tmp_path):
    values = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    read = images.read_image(tmp_path / "a.png")
    assert read.shape == (40, 60, 3)
    assert np.abs(read[..., 0].astype(int) - values / 257).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_transparent_images_are_laid_on_white(tmp_path, pixels, suffix, orientation):
    opacity = np.linspace(0, 255, 40 * 60).reshape(40, 60).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.dstack([pixels, opacity]), "RGBA")
    image.save(tmp_path / f"a{suffix}", exif=exif, lossless=True)
    share = opacity[..., None] / 255
    expected = pixels * share + 255 * (1 - share)
    expected = {1: expected, 3: expected[::-1, ::-1], 6: np.rot90(expected, -1)}[orientation]
    read = images.read_image(tmp_path / f"a{suffix}").astype(int)
    assert read.shape == expected.shape
    assert np.abs(read - expected).max() <= 1


def test_transparent_palette(tmp_path, pixels):
    image = Image.fromarray(pixels).quantize(16)
    image.info["transparency"] = 3
    image.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as written:
        image = written.convert("RGBA")
    expected = np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
    assert (expected == 255).all(axis=2).any()
    assert np.abs(images.read_image(tmp_path / "a.png").astype(int) - expected).max() <= 1


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(s, "RGB") for s in (".jpg", ".png", ".webp", ".tif", ".bmp", ".ppm", ".jp2", ".gif", ".avif")]
    + [(".png", "RGBA"), (".webp", "RGBA"), (".tif", "RGBA"), (".png", "LA"), (".pgm", "L")],
)
def test_headers_say_what_pillow_says(tmp_path, pixels, suffix, mode, orientation):
    exif = Image.Exif()
    if orientation > 1:
        if suffix not in (".jpg", ".png", ".webp", ".tif"):
            pytest.skip("without EXIF")
        exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    try:
        Image.fromarray(pixels).convert(mode).save(path, **({"exif": exif} if orientation > 1 else {}))
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {suffix}")
    with Image.open(path) as image:
        header = read_header(path.read_bytes())
        turned = suffix == ".tif" and orientation > 4  # Pillow turns these when it opens them
        assert (header.width, header.height) == (image.size[::-1] if turned else image.size)
        assert header.alpha == ("A" in image.mode or suffix == ".gif")
        names = {"jpeg2000": "jp2", "ppm": "pnm"}
        assert header.format == names.get(image.format.lower(), image.format.lower())
    assert header.orientation == orientation


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".ppm", ".gif"])
def test_headers_cut_anywhere_are_no_crash(tmp_path, pixels, suffix):
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    data = (tmp_path / f"a{suffix}").read_bytes()
    for end in range(min(len(data), 600)):
        header = read_header(data[:end])
        assert header is None or header.width >= 0


def test_cmyk(tmp_path, pixels):
    cmyk = Image.fromarray(pixels).convert("CMYK")
    cmyk.save(tmp_path / "a.jpg", quality=98, subsampling=0)
    expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")).astype(int)
    assert np.abs(images.read_image(tmp_path / "a.jpg").astype(int) - expected).max() <= 8


def test_missing(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        images.read_image(tmp_path / "no.jpg")


def test_empty(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"is empty \(0 bytes\)"):
        images.read_image(tmp_path / "a.jpg")


def test_no_image(tmp_path):
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(ImageError, match="is not a readable image"):
        images.read_image(tmp_path / "a.jpg")


def test_folder(tmp_path):
    with pytest.raises(ImageError, match="cannot read"):
        images.read_image(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_truncated(tmp_path, suffix, share):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(path)
    assert images.read_image(path).shape == (200, 200, 3)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ImageError, match="is truncated"):
        images.read_image(path)


def test_truncated_jpeg_with_thumbnail(tmp_path, pixels):
    """The thumbnail's own end marker is no excuse."""
    import io

    thumbnail = io.BytesIO()
    Image.fromarray(pixels).resize((16, 16)).save(thumbnail, "JPEG")
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "JPEG")
    segment = b"\xff\xe1" + (len(thumbnail.getvalue()) + 2).to_bytes(2, "big") + thumbnail.getvalue()
    whole = body.getvalue()[:2] + segment + body.getvalue()[2:]
    (tmp_path / "a.jpg").write_bytes(whole)
    assert images.read_image(tmp_path / "a.jpg").shape == pixels.shape
    (tmp_path / "a.jpg").write_bytes(whole[:-40])
    with pytest.raises(ImageError, match="is truncated"):
        images.read_image(tmp_path / "a.jpg")


def test_too_large(tmp_path):
    """30,000 x 30,000 pixels that compress to almost nothing."""
    Image.new("1", (30000, 30000)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="more than 268 megapixels"):
        images.read_image(tmp_path / "a.png")


def test_write_keeps_what_was_there_on_failure(tmp_path, pixels):
    target = tmp_path / "a.xyz"
    target.write_text("precious")
    with pytest.raises(OutputError, match="no image format"):
        images.write_image(target, pixels)
    assert target.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["a.xyz"]


def test_write_into_a_file_as_folder(tmp_path, pixels):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        images.write_image(tmp_path / "file" / "a.png", pixels)


def test_written_png_reads_back(tmp_path, pixels):
    images.write_image(tmp_path / "new" / "a.png", pixels)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), pixels)
