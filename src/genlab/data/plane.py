"""Bent, twisted and disconnected densities of the plane: the usual toy problems for flows."""

import math
from typing import Any

import torch

from genlab.data.examples import Examples
from genlab.data.points import DrawnPoints
from genlab.errors import InputError


class TwoMoons(DrawnPoints):
    """Two interleaved half circles of radius 1 with Gaussian noise; the class of a point is its half circle.

    Args:
        std: standard deviation of the noise, in each coordinate.
        **options: arguments of :class:`~genlab.data.points.DrawnPoints`.

    Raises:
        InputError: if ``std`` is not above 0.
    """

    def __init__(self, std: float = 0.05, **options: Any) -> None:
        super().__init__(**options)
        if std <= 0:
            raise InputError(f"std={std}: expected a number above 0")
        self.std = std

    def draw(self, num: int, generator: torch.Generator) -> Examples:
        labels = torch.randint(2, (num,), generator=generator)
        angle = math.pi * torch.rand(num, generator=generator)
        upper = torch.stack([angle.cos(), angle.sin()], 1)
        lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
        noise = torch.randn(num, 2, generator=generator)
        return Examples(torch.where(labels[:, None] == 0, upper, lower) + self.std * noise, labels)


class Pinwheel(DrawnPoints):
    """Gaussians around a circle, stretched along the radius and bent more with growing radius; each arm is a class.

    Args:
        num: number of arms.
        radial_std: standard deviation along an arm, whose middle is at distance 1 from the centre.
        tangential_std: standard deviation across an arm.
        twist: angle in radians by which a point at radius 0 is turned; at radius r it is multiplied by exp(r).
        **options: arguments of :class:`~genlab.data.points.DrawnPoints`.

    Raises:
        InputError: if ``num`` is below 1, or a standard deviation is not above 0.
    """

    def __init__(
        self,
        num: int = 5,
        radial_std: float = 0.3,
        tangential_std: float = 0.1,
        twist: float = 0.25,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if num < 1 or min(radial_std, tangential_std) <= 0:
            raise InputError(
                f"num={num}, radial_std={radial_std}, tangential_std={tangential_std}: expected numbers above 0"
            )
        self.num, self.radial_std, self.tangential_std, self.twist = num, radial_std, tangential_std, twist

    def draw(self, num: int, generator: torch.Generator) -> Examples:
        labels = torch.randint(self.num, (num,), generator=generator)
        along, across = torch.randn(2, num, generator=generator)
        along, across = 1 + self.radial_std * along, self.tangential_std * across
        angle = 2 * math.pi * labels / self.num + self.twist * along.exp()
        cos, sin = angle.cos(), angle.sin()
        return Examples(torch.stack([cos * along - sin * across, sin * along + cos * across], 1), labels)


class Checkerboard(DrawnPoints):
    """Uniform density on every second square of a board centred at 0; the class of a point is its square, row by row.

    Args:
        side: number of squares along a side of the board; even.
        width: width of a square.
        **options: arguments of :class:`~genlab.data.points.DrawnPoints`.

    Raises:
        InputError: if ``side`` is not even and at least 2, or ``width`` is not above 0.
    """

    def __init__(self, side: int = 4, width: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        if side < 2 or side % 2 or width <= 0:
            raise InputError(f"side={side}, width={width}: expected an even number of squares, of a width above 0")
        self.side, self.width = side, width

    def draw(self, num: int, generator: torch.Generator) -> Examples:
        in_row = self.side // 2
        labels = torch.randint(self.side * in_row, (num,), generator=generator)
        row = labels // in_row
        column = 2 * (labels % in_row) + row % 2
        corner = torch.stack([column, row], 1) - self.side / 2
        return Examples(self.width * (corner + torch.rand(num, 2, generator=generator)), labels)
