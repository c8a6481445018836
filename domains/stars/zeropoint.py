"""The zero-point of Gaia's parallaxes (EDR3 and DR3): how much too small they are, by magnitude, colour and place.

    Z(G, ν, β) = Σ_jk q_jk(G) c_j(ν) b_k(β)

with q_jk linear in G between its knots, b = (1, sin β, sin²β − 1/3), and c_j piecewise polynomials of the
effective wavenumber ν (μm⁻¹): ν_eff for five-parameter solutions, the pseudocolour for six-parameter ones. The
true parallax is estimated by ϖ − Z. Lindegren et al. 2021, A&A 649, A4, appendix A, tables 9 and 10.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ecliptic_latitude", "wavenumber", "zero_point"]

_KNOTS = np.array([6.0, 10.8, 11.2, 11.8, 12.2, 12.9, 13.1, 15.9, 16.1, 17.5, 19.0, 20.0, 21.0])  # G
#: (j, k) -> q_jk at the knots, μas: table 9, five-parameter solutions
_Z5 = {
    (0, 0): (-26.98, -27.23, -30.33, -33.54, -13.65, -19.53, -37.99, -38.33, -31.05, -29.18, -18.4, -12.65, -18.22),
    (0, 1): (-9.62, -3.07, -9.23, -10.08, -0.07, -1.64, 2.63, 5.61, 2.83, -0.09, 5.98, -4.57, -15.24),
    (0, 2): (27.40, 23.04, 9.08, 13.28, 9.35, 15.86, 16.14, 15.42, 8.59, 2.41, -6.46, -7.46, -18.54),
    (1, 0): (-25.1, 35.3, -88.4, -126.7, -111.4, -66.8, -5.7, 0, 0, 0, 0, 0, 0),
    (1, 1): (0, 15.7, -11.8, 11.6, 40.6, 20.6, 14.0, 18.7, 15.5, 24.5, 5.5, 97.9, 128.2),
    (2, 0): (-1257, -1257, -1257, -1257, -1257, -1257, -1257, -1189, -1404, -1165, 0, 0, 0),
    (3, 0): (0, 0, 0, 0, 0, 0, 107.9, 243.8, 105.5, 189.7, 0, 0, 0),
    (4, 0): (0, 0, 0, 0, 0, 0, 104.3, 155.2, 170.7, 325.0, 276.6, 0, 0),
}  # fmt: skip
#: table 10, six-parameter solutions
_Z6 = {
    (0, 0): (-27.85, -28.91, -26.72, -29.04, -12.39, -18.99, -38.29, -36.83, -28.37, -24.68, -15.32, -13.73,
             -29.53),
    (0, 1): (-7.78, -3.57, -8.74, -9.69, -2.16, -1.93, 2.59, 4.20, 1.99, -1.37, 4.01, -10.92, -20.34),
    (0, 2): (27.47, 22.92, 9.36, 13.63, 10.23, 15.90, 16.20, 15.76, 9.28, 3.52, -6.03, -8.30, -18.74),
    (1, 0): (-32.1, 7.7, -30.3, -49.4, -92.6, -57.2, -10.5, 22.3, 50.4, 86.8, 29.2, -74.4, -39.5),
    (1, 1): (14.4, 12.6, 5.6, 36.3, 19.8, -8.0, 1.4, 11.1, 17.2, 19.8, 14.1, 196.4, 326.8),
    (1, 2): (9.5, 1.6, 17.2, 17.7, 27.6, 19.9, 0.4, 10.0, 13.7, 21.3, 0.4, -42.0, -262.3),
    (2, 0): (-67, -572, -1104, -1129, -365, -554, -960, -1367, -1351, -1380, -563, 536, 1598),
}  # fmt: skip
#: where the two are defined, μm⁻¹
_RANGES = {5: (1.1, 1.9), 6: (1.24, 1.72)}
_OBLIQUITY = np.radians(84381.411 / 3600)  # of Gaia's ecliptic


def zero_point(
    magnitude: np.ndarray, colour: np.ndarray, ecl_lat: np.ndarray, six_parameters: np.ndarray
) -> np.ndarray:
    """Z in mas, (N,): to be subtracted from the parallax. NaN where magnitude or colour is NaN.

    magnitude: G; colour: ν_eff (μm⁻¹), or the pseudocolour where ``six_parameters`` (N,) bool is true; ecl_lat: β
    in degrees. Outside G = 6 … 21, ν_eff = 1.1 … 1.9 and pseudocolour = 1.24 … 1.72 μm⁻¹, where Z is not defined,
    the value at the edge is taken.
    """
    sine = np.sin(np.radians(ecl_lat))
    latitude = (np.ones_like(sine), sine, sine**2 - 1 / 3)
    found = np.full(np.shape(magnitude), np.nan)
    for parameters, table in ((5, _Z5), (6, _Z6)):
        nu = np.clip(colour, *_RANGES[parameters])
        colours = (
            np.ones_like(nu),
            np.clip(nu - 1.48, -0.24, 0.24),
            np.clip(1.48 - nu, 0, 0.24) ** 3,
            np.minimum(0, nu - 1.24),
            np.maximum(0, nu - 1.72),
        )
        z = sum(np.interp(magnitude, _KNOTS, q) * colours[j] * latitude[k] for (j, k), q in table.items())
        found = np.where(np.asarray(six_parameters) == (parameters == 6), z, found)
    return found / 1000


def wavenumber(bp_rp: np.ndarray) -> np.ndarray:
    """ν_eff ≈ 1.76 − 1.61/π · arctan(0.531 (BP − RP)), μm⁻¹, where a catalogue brings no ν_eff of its own.

    Lindegren et al. 2021, A&A 649, A2, eq. 3, where it serves five-parameter solutions.
    """
    return 1.76 - 1.61 / np.pi * np.arctan(0.531 * np.asarray(bp_rp, float))


def ecliptic_latitude(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """β in degrees: sin β = sin δ cos ε − cos δ sin ε sin α, with ε the obliquity of Gaia's ecliptic."""
    a, d = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    sine = np.sin(d) * np.cos(_OBLIQUITY) - np.cos(d) * np.sin(_OBLIQUITY) * np.sin(a)
    return np.degrees(np.arcsin(np.clip(sine, -1, 1)))
