"""Frames and motions against closed forms and against astropy."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from sciencevae.builtin.stars import kinematics as k

V = np.array([-6.0, 45.6, 5.4])


@pytest.fixture
def cluster() -> dict[str, np.ndarray]:
    """200 stars of one space velocity within 20° of the Hyades' centre, 30 to 60 pc away."""
    random = np.random.default_rng(0)
    ra, dec = 66.7 + random.uniform(-20, 20, 200), 15.9 + random.uniform(-20, 20, 200)
    direction = k.directions(ra, dec)
    parallax = 1000 / random.uniform(30, 60, 200)
    return {
        "ra": ra,
        "dec": dec,
        "direction": direction,
        "parallax": parallax,
        "pm": k.proper_motion(V, direction, parallax),
    }


def test_kappa_is_one_au_a_year() -> None:
    assert (1 * u.au / u.yr).to_value(u.km / u.s) == pytest.approx(k.KAPPA, rel=1e-12)


def test_proper_motion_agrees_with_astropy(cluster: dict[str, np.ndarray]) -> None:
    direction, parallax = cluster["direction"], cluster["parallax"]
    x, y, z = (direction * 1000 / parallax[:, None]).T * u.pc
    v_x, v_y, v_z = np.repeat(V[:, None], len(parallax), axis=1) * u.km / u.s
    place = SkyCoord(x=x, y=y, z=z, v_x=v_x, v_y=v_y, v_z=v_z, representation_type="cartesian")
    sphere = place.represent_as("spherical", "sphericalcoslat")
    motion = sphere.differentials["s"]
    expected = np.stack(
        [
            motion.d_lon_coslat.to_value(u.mas / u.yr, u.dimensionless_angles()),
            motion.d_lat.to_value(u.mas / u.yr, u.dimensionless_angles()),
        ],
        axis=1,
    )
    np.testing.assert_allclose(cluster["pm"], expected, rtol=1e-9)
    np.testing.assert_allclose(sphere.lon.deg, cluster["ra"], rtol=1e-12)
    np.testing.assert_allclose(sphere.lat.deg, cluster["dec"], rtol=1e-12)


def test_one_velocity_leaves_no_spread_after_projection(cluster: dict[str, np.ndarray]) -> None:
    raw = k.tangential_velocity(cluster["parallax"], cluster["pm"])
    left = k.perspective_residual(cluster["direction"], cluster["parallax"], cluster["pm"], V)
    assert raw.std(0).min() > 3, "the fan that the projection has to remove"
    assert np.abs(left).max() < 1e-12


def test_convergent_point_is_recovered(cluster: dict[str, np.ndarray]) -> None:
    expected = SkyCoord(*V, representation_type="cartesian").represent_as("unitspherical")
    ra, dec = k.convergent_point(cluster["direction"], cluster["pm"])
    assert (ra, dec) == pytest.approx((expected.lon.deg, expected.lat.deg), abs=1e-8)
    found = k.common_velocity(cluster["direction"], cluster["parallax"], cluster["pm"])
    np.testing.assert_allclose(found.value, V, rtol=1e-10)
    point = k.convergent_point_of(found)
    assert (point.ra, point.dec) == pytest.approx((ra, dec), abs=1e-8)


def test_motion_is_along_the_convergent_point(cluster: dict[str, np.ndarray]) -> None:
    ra, dec = k.sky_position(V)
    along, across, angle = k.transverse(cluster["direction"], cluster["pm"], float(ra), float(dec))
    assert np.abs(across).max() < 1e-10
    np.testing.assert_allclose(
        k.speed_along(cluster["parallax"], along, angle), np.linalg.norm(V), rtol=1e-10
    )


def test_errors_of_velocity_and_convergent_point_are_calibrated(cluster: dict[str, np.ndarray]) -> None:
    random = np.random.default_rng(1)
    covariance = np.broadcast_to(np.diag([0.3, 0.9, 0.8]) ** 2, (200, 3, 3))
    pulls, sky = [], []
    for _ in range(200):
        noise = random.normal(size=(200, 3)) * [0.3, 0.9, 0.8]
        found = k.common_velocity(
            cluster["direction"],
            cluster["parallax"] + noise[:, 0],
            cluster["pm"] + noise[:, 1:],
            covariance,
        )
        pulls.append((found.value - V) / np.sqrt(np.diag(found.covariance)))
        point = k.convergent_point_of(found)
        away = k.tangent_basis(V / np.linalg.norm(V)) @ k.directions(np.array(point.ra), np.array(point.dec))
        sky.append(np.degrees(away) / np.sqrt(np.diag(point.covariance)))
    assert np.std(pulls, axis=0) == pytest.approx(1.0, abs=0.2)
    assert np.std(sky, axis=0) == pytest.approx(1.0, abs=0.2)


def test_poles_wrap_and_separation() -> None:
    basis = k.tangent_basis(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]))
    np.testing.assert_allclose(basis @ basis.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (2, 2, 2)))
    first, second = (
        k.directions(np.array([359.9, 10.0]), np.array([0.0, 89.9])),
        k.directions(np.array([0.1, 190.0]), np.array([0.0, 89.9])),
    )
    np.testing.assert_allclose(k.separation(first, second), [0.2, 0.2], rtol=1e-9)
    ra, dec = k.sky_position(k.directions(np.array([359.9]), np.array([-45.0])))
    assert (ra[0], dec[0]) == pytest.approx((359.9, -45.0))


def test_azimuthal_keeps_area() -> None:
    """Rings of equal area on the sphere have equal area in the plane."""
    centre = k.directions(np.array(66.7), np.array(15.9))
    heights = 1 - np.linspace(0, 0.4, 5)  # equal steps of cos θ are equal areas
    north = k.tangent_basis(centre)[1]
    ring = heights[:, None] * centre + np.sqrt(1 - heights**2)[:, None] * north
    radius = np.linalg.norm(k.azimuthal(ring, centre), axis=1)
    np.testing.assert_allclose(np.diff(radius**2), np.diff(radius**2)[0], rtol=1e-9)
    np.testing.assert_allclose(k.azimuthal(ring, centre)[:, 0], 0, atol=1e-9)
