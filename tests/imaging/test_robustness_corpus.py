"""Real malformed and unusual files, kept outside the repository."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from service.errors import BadUpload, DamagedImage, FrameNeeded, ImageTooLarge, UnknownImageFormat
from service.imaging.decode import decode, decode_mask

LIMIT = 40_000_000

REFUSED: dict[str, type[BadUpload]] = {
    "bomb_gray1_30000x30000.png": ImageTooLarge,
    "large_gray1_10000x10000.png": ImageTooLarge,
    "jpeg_header_65000x65000.jpg": ImageTooLarge,
    "bmp_b_reallybig.bmp": ImageTooLarge,
    "bmp_b_shortfile.bmp": DamagedImage,
    "broken_data_stream.png": DamagedImage,
    "lesion_truncated.jpg": DamagedImage,
    "truncated_jpeg.jpg": DamagedImage,
    "fundus_truncated.ppm": DamagedImage,
    "png_decompression_dos.png": DamagedImage,
    "oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": DamagedImage,
    "empty.png": UnknownImageFormat,
    "html_named_png.png": UnknownImageFormat,
    "hopper.webp": UnknownImageFormat,
    "decompression_bomb.gif": UnknownImageFormat,
    "made_derm_rgb.dcm": UnknownImageFormat,
    "CT_small.dcm": UnknownImageFormat,
    "multipage.tiff": FrameNeeded,
    "g4-multi.tiff": FrameNeeded,
    "apng_mode_16bit.png": FrameNeeded,
}

DECODED: dict[str, tuple[int, int, int]] = {
    "fundus_exif6.jpg": (605, 700, 3),
    "hopper_bad_exif.jpg": (500, 500, 3),
    "exif_typeerror.jpg": (531, 800, 3),
    "hopper_16bit.pgm": (128, 128, 3),
    "hopper_1bit.pbm": (128, 128, 3),
    "12bit.cropped.tif": (100, 100, 3),
    "tiff_16bit_RGB.tiff": (40, 100, 3),
    "tiff_strip_cmyk_jpeg.tif": (100, 100, 3),
    "lesion_cmyk.jpg": (300, 300, 3),
    "lesion_rgba.png": (200, 200, 3),
    "bmp_g_pal8rle.bmp": (64, 127, 3),
    "one_pixel.png": (1, 1, 3),
    "thin_3x900.png": (900, 3, 3),
    "no_extension": (150, 200, 3),
}


@pytest.fixture(scope="module")
def corpus(real_data: Path) -> Path:
    folder = real_data / "robustness"
    if not folder.is_dir():
        pytest.skip("no folder robustness beside the data sets")
    return folder


def test_every_file_decodes_or_is_refused(corpus: Path) -> None:
    for file in sorted(corpus.iterdir()):
        for read in (decode, decode_mask):
            for frame in (None, 0):
                with suppress(BadUpload):
                    read(file.read_bytes(), max_pixels=LIMIT, frame=frame)


@pytest.mark.parametrize("name", REFUSED)
def test_this_file_is_refused_for_the_right_reason(corpus: Path, name: str) -> None:
    with pytest.raises(REFUSED[name]):
        decode((corpus / name).read_bytes(), max_pixels=LIMIT)


@pytest.mark.parametrize("name", DECODED)
def test_this_file_decodes_upright(corpus: Path, name: str) -> None:
    assert decode((corpus / name).read_bytes(), max_pixels=LIMIT).pixels.shape == DECODED[name]


MEASURE = """
import resource, sys
from contextlib import suppress
from pathlib import Path
from service.errors import BadUpload
from service.imaging.decode import decode

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak_mib()
for file in sorted(Path(sys.argv[1]).iterdir()):
    with suppress(BadUpload):
        decode(file.read_bytes(), max_pixels=40_000_000, frame=0)
print(peak_mib() - before)
"""


def test_no_file_makes_memory_explode(corpus: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(corpus)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    largest_page_mib = 3307 * 4677 * 8 / 2**20  # of g4-multi.tiff, the largest that is decoded
    assert float(ran.stdout) < largest_page_mib + 60
