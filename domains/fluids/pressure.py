"""The projection onto fields without divergence, in a box with walls: by cosine transforms, or iteratively.

    ∇²p = ∇·u*,   u = u* − ∇p,   ∂p/∂n = 0 on walls and obstacles

Velocities are those of the inner faces, u (B, ny, nx − 1) and v (B, ny − 1, nx); lengths are in cells, so that p is
in m/s times cells. What is returned has the walls again: (B, ny, nx + 1) and (B, ny + 1, nx).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sciencevae.errors import RunError

__all__ = ["ConjugateGradients", "Cosines", "Obstacles", "divergence"]


def divergence(u: Tensor, v: Tensor) -> Tensor:
    """∂u/∂x + ∂v/∂y of velocities on inner faces, those on walls being 0: (B, ny, nx)."""
    u, v = F.pad(u, (1, 1)), F.pad(v, (0, 0, 1, 1))
    return (u[..., 1:] - u[..., :-1]) + (v[:, 1:] - v[:, :-1])


def gradient(p: Tensor) -> tuple[Tensor, Tensor]:
    """∂p/∂x and ∂p/∂y on inner faces."""
    return p[..., 1:] - p[..., :-1], p[:, 1:] - p[:, :-1]


def with_walls(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The faces on walls, with velocity 0, added."""
    return F.pad(u, (1, 1)), F.pad(v, (0, 0, 1, 1))


class Obstacles:
    """Solid cells (B, ny, nx) of each scene: which faces are open, and which lie between solid and fluid."""

    def __init__(self, solid: Tensor) -> None:
        self.shape = solid.shape[1:]
        touched_u, touched_v = solid[..., 1:] | solid[..., :-1], solid[:, 1:] | solid[:, :-1]
        self.open_u, self.open_v = ~touched_u, ~touched_v
        skin_u, skin_v = solid[..., 1:] ^ solid[..., :-1], solid[:, 1:] ^ solid[:, :-1]
        skin = torch.cat([skin_u.flatten(1), skin_v.flatten(1)], 1)
        most = int(skin.sum(1).max())
        self.skin = skin.byte().argsort(dim=1, descending=True, stable=True)[
            :, :most
        ]  # (B, K), padded with others
        self.is_skin = skin.gather(1, self.skin)  # (B, K)


class Cosines:
    """Exact: the Laplacian of a box is diagonal in cosines. Two matrix products a direction, on any device.

    λ_k = −4 sin²(πk / 2n),   C_kj = √(2/n) cos(πk(j + ½)/n)

    With obstacles, forces λ on the K faces between solid and fluid make the velocity there vanish: with P the
    projection of the box and E the K unit forces, (Eᵀ P E) λ = −Eᵀ P u* and u = P(u* + E λ), the capacitance
    matrix method (Buzbee, Dorr, George, Golub, SIAM J. Numer. Anal. 8, 1971). K × K matrices are made once a scene.
    """

    def __init__(self, shape: tuple[int, int], like: Tensor, obstacles: Obstacles | None = None) -> None:
        wide = [_cosines(n, like.device) for n in shape]
        (self._y, lambda_y), (self._x, lambda_x) = wide
        eigenvalues = lambda_y[:, None] + lambda_x
        eigenvalues[0, 0] = math.inf  # the mean of p is free: 0
        self._inverse = 1 / eigenvalues
        self.obstacles = obstacles
        if obstacles is not None:
            self._response = self._capacitance(obstacles).to(like)  # in float64, whatever the solver works in
        self._y, self._x, self._inverse = (a.to(like) for a in (self._y, self._x, self._inverse))

    def __call__(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Velocities without divergence, with walls."""
        if self.obstacles is None:
            return with_walls(*self._project(u, v))
        u, v = self._project(u * self.obstacles.open_u, v * self.obstacles.open_v)
        faces, skin = torch.cat([u.flatten(1), v.flatten(1)], 1), self.obstacles.skin
        force = self._response @ faces.gather(1, skin)[..., None]
        faces = faces.scatter_add(1, skin, force[..., 0])
        u, v = self._project(*self._split(faces))
        return with_walls(u * self.obstacles.open_u, v * self.obstacles.open_v)

    def _project(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        modes = self._y @ divergence(u, v) @ self._x.T * self._inverse
        p = self._y.T @ modes @ self._x
        p_x, p_y = gradient(p)
        return u - p_x, v - p_y

    def _split(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        (ny, _), (nx, _) = self._y.shape, self._x.shape
        count = ny * (nx - 1)
        return faces[:, :count].reshape(-1, ny, nx - 1), faces[:, count:].reshape(-1, ny - 1, nx)

    def _capacitance(self, obstacles: Obstacles) -> Tensor:
        """−(Eᵀ P E)⁺ of each scene, (B, K, K); its null space is a solid's pressure against what is around it."""
        (ny, nx), (B, K) = obstacles.shape, obstacles.skin.shape
        response = self._inverse.new_zeros(B, K, K)
        for scene in range(B):
            faces = obstacles.skin[scene][obstacles.is_skin[scene]]
            k = len(faces)
            unit = self._inverse.new_zeros(k, ny * (nx - 1) + (ny - 1) * nx)
            unit[torch.arange(k, device=unit.device), faces] = 1
            u, v = self._project(*self._split(unit))
            matrix = torch.cat([u.flatten(1), v.flatten(1)], 1)[:, faces]
            response[scene, :k, :k] = -torch.linalg.pinv(matrix, rtol=1e-10, hermitian=True)
        return response


class ConjugateGradients:
    """Iterative, as published solvers do it: until ‖residual‖ ≤ ``tolerance`` ‖divergence‖ in every scene.

    Raises RunError where that takes more than ``10 (nx + ny)`` iterations, as below what the dtype resolves.
    """

    def __init__(
        self, shape: tuple[int, int], like: Tensor, obstacles: Obstacles | None, tolerance: float
    ) -> None:
        ny, nx = shape
        self.tolerance, self.most, self.iterations = tolerance, 10 * (nx + ny), 0
        one = like.new_ones(())
        self.open_u, self.open_v = (one, one)
        if obstacles is not None:
            self.open_u, self.open_v = obstacles.open_u.to(like), obstacles.open_v.to(like)

    def __call__(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Velocities whose divergence is below the tolerance, with walls; ``iterations`` tells how many it took."""
        u, v = u * self.open_u, v * self.open_v
        residual = -divergence(u, v)
        p, direction = torch.zeros_like(residual), residual
        square = (residual * residual).sum((1, 2), keepdim=True)
        enough = self.tolerance**2 * square
        for iteration in range(self.most):
            if bool((square <= enough).all()):
                self.iterations = iteration
                break
            image = -divergence(*self._open_gradient(direction))
            rate = square / (direction * image).sum((1, 2), keepdim=True).clamp(min=1e-30)
            p, residual = p + rate * direction, residual - rate * image
            before, square = square, (residual * residual).sum((1, 2), keepdim=True)
            direction = residual + square / before.clamp(min=1e-30) * direction
        else:
            raise RunError(
                f"conjugate gradients have not reached the tolerance {self.tolerance:g} after {self.most} "
                "iterations: allow a larger one, or solve by cosines"
            )
        p_x, p_y = self._open_gradient(p)
        return with_walls(u - p_x, v - p_y)

    def _open_gradient(self, p: Tensor) -> tuple[Tensor, Tensor]:
        p_x, p_y = gradient(p)
        return p_x * self.open_u, p_y * self.open_v


def _cosines(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The orthonormal transform (k, j) and the eigenvalues (k,) of the second difference between two walls."""
    k = torch.arange(n, dtype=torch.float64, device=device)
    matrix = math.sqrt(2 / n) * torch.cos(math.pi / n * k[:, None] * (k + 0.5))
    matrix[0] = 1 / math.sqrt(n)
    return matrix, -4 * torch.sin(math.pi / (2 * n) * k).square()
