"""Photographs and other pictures of a user's own, read as they are to be seen."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path, PurePath

import numpy as np

from sciencevae.errors import InputError

__all__ = ["leads_out", "open_picture"]

#: what readers of pictures raise where the bytes make no sense
_BROKEN = (OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
#: other formats have readers that call other programs, or that few look at
_READ = ("JPEG", "PNG", "TIFF", "WEBP")


def open_picture(path: Path) -> np.ndarray:
    """A picture (H, W, 3) of uint8, upright: turned as its EXIF orientation says.

    Raises InputError for a file that is no picture, is damaged, has more pixels than Pillow reads (90 million), is
    transparent anywhere, or has grey values of more than 8 bits: of which none says what is white.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_READ) as picture:
                if picture.mode.startswith(("I", "F")):
                    raise InputError(f"{path} has grey values of more than 8 bits: save it with 8 bits")
                upright = ImageOps.exif_transpose(picture)
                if upright.has_transparency_data and np.asarray(upright.convert("RGBA"))[..., 3].min() < 255:
                    raise InputError(f"{path} is transparent in places: put it on a background and save it")
                upright = upright.convert("RGB")
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"no file {path}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no picture that can be read: give JPEG, PNG, TIFF or WebP") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path} has more pixels than are read: make it smaller") from error
    except _BROKEN as error:
        raise InputError(f"{path} is damaged or is no picture: {error}") from error
    return np.asarray(upright)


def leads_out(name: str) -> bool:
    """Whether a file that a table names lies elsewhere than in the table's own folder.

    Whoever wrote the table would choose what is read with your permissions.
    """
    return PurePath(name).is_absolute() or ".." in PurePath(name).parts
