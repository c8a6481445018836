"""Faces cut out so that they lie alike."""

from __future__ import annotations

import numpy as np
import pytest
from sciencevae.builtin.faces.frame import EYES, after, crop, eye_frame, inverse, register, similarity
from scipy.ndimage import gaussian_filter


def texture(size: int, seed: int = 0) -> np.ndarray:
    picture = np.random.default_rng(seed).random((size, size, 3))
    return np.stack([gaussian_filter(picture[..., c], size / 24, mode="wrap") for c in range(3)], -1)


def test_a_similarity_takes_two_points_to_two_points() -> None:
    source, target = np.array([[1.0, 2.0], [5.0, -1.0]]), np.array([[0.0, 7.0], [3.0, 3.0]])
    found = similarity(source, target)
    assert source @ found[:, :2].T + found[:, 2] == pytest.approx(target)
    linear = found[:, :2]
    assert linear.T @ linear == pytest.approx(np.linalg.det(linear) * np.eye(2)), "no shear"
    assert after(found, inverse(found)) == pytest.approx(np.c_[np.eye(2), np.zeros(2)])


def test_the_identity_cuts_out_the_picture() -> None:
    photo = texture(24)
    assert crop(photo, np.array([[1, 0, 0], [0, 1, 0]], float), 24) == pytest.approx(photo)
    shifted = crop(photo, np.array([[1, 0, 3], [0, 1, -2]], float), 24)
    assert shifted[:-3, 2:] == pytest.approx(photo[3:, :-2])
    halved = crop(photo, np.array([[2, 0, 0.5], [0, 2, 0.5]], float), 12)
    assert halved == pytest.approx(photo.reshape(12, 2, 12, 2, 3).mean((1, 3)))


def test_of_a_large_photo_some_rows_are_cut_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = np.random.default_rng(0).random((60, 70, 3)).astype(np.float32)
    frame = np.array([[2.3, 0.4, 1.0], [-0.4, 2.3, 3.0]])
    whole = crop(photo, frame, 24)
    for places in (1, 500, 2000):
        monkeypatch.setattr("sciencevae.builtin.faces.frame._PLACES", places)
        assert np.array_equal(crop(photo, frame, 24), whole)


def test_the_eyes_lie_where_they_belong() -> None:
    """A bright dot at either eye of a photo comes to lie at its place in the frame."""
    photo, eyes = np.zeros((120, 160, 3)), np.array([[50, 60], [62, 104]])
    for eye in eyes:
        photo[tuple(eye)] = 1
    photo = gaussian_filter(photo, (1.5, 1.5, 0))
    face = crop(photo, eye_frame(eyes.astype(float), 64), 64).sum(2)
    left = np.unravel_index(face[:, :32].argmax(), (64, 32))
    right = np.unravel_index(face[:, 32:].argmax(), (64, 32))
    assert np.array(left) == pytest.approx(EYES[0] * 64 - 0.5, abs=0.8)
    assert np.array(right) + np.array([0, 32]) == pytest.approx(EYES[1] * 64 - 0.5, abs=0.8)


def test_registration_finds_the_similarity_that_was_applied() -> None:
    """In other light, too, and with noise."""
    size, photo = 48, texture(96, 3)
    base = np.array([[1, 0, 24], [0, 1, 24]], float)
    fixed, moving, known = [], [], []
    for number, (down, right, scale, angle) in enumerate(
        [(2, -3, 1.05, 0.06), (-4, 1, 0.96, -0.1), (0, 0, 1, 0)]
    ):
        a, b = scale * np.cos(angle), scale * np.sin(angle)
        middle = np.full(2, (size - 1) / 2)
        linear = np.array([[a, -b], [b, a]])
        move = np.c_[linear, middle + np.array([down, right]) - linear @ middle]
        known.append(move)
        fixed.append(crop(photo, after(base, move), size).mean(2))
        noise = 0.0003 * np.random.default_rng(number).standard_normal((size, size))
        moving.append(0.8 * crop(photo, base, size).mean(2) + 0.1 + noise)
    found, correlation = register(moving, fixed, np.pad(np.ones((36, 36)), 6))
    corners = np.array([[8, 8], [8, 40], [40, 8], [40, 40]], float)
    for own, move in zip(found, known, strict=True):
        places, wanted = (corners @ m[:, :2].T + m[:, 2] for m in (own, move))
        assert places == pytest.approx(wanted, abs=0.2)
    assert (correlation > 0.97).all()
