"""Pictures as they are to be seen: turned, in red, green and blue, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sciencevae.data.pictures import open_picture
from sciencevae.errors import InputError

RAMP = np.arange(20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
def test_any_picture_of_8_bits_is_read(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(RAMP).convert(mode).save(path)
    found = open_picture(path)
    assert found.shape == RAMP.shape
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(found, RAMP)


def test_a_picture_is_turned_as_it_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90° clockwise
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(open_picture(tmp_path / "a.png"), np.rot90(RAMP, -1))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.linspace(1000, 60000, 600).reshape(20, 30).astype(np.uint16), "more than 8 bits"),
        (np.linspace(0, 1, 600).reshape(20, 30).astype(np.float32), "more than 8 bits"),
        (np.dstack([RAMP, np.full((20, 30), 128, np.uint8)]), "transparent in places"),
    ],
)
def test_what_would_be_seen_otherwise_is_refused(tmp_path: Path, values: np.ndarray, says: str) -> None:
    """Pillow makes white of grey values above 255, black of those below 1, and shows what is hidden."""
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=says):
        open_picture(tmp_path / "a.tif")
