"""The silhouettes of the cars: side views facing right, 100 units long, the ground at y = 0."""

from dataclasses import dataclass

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Body:
    """One silhouette.

    Attributes:
        hull: top line of the lower body from the tail to the nose.
        cabin: outline of the upper body; empty for an open car.
        glass: share of the cabin's height and width that is window.
        pillars: where window posts stand.
        axles: x of the rear and of the front wheel.
        sill: height of the lower edge.
        badge: where the make's badge sits.
    """

    hull: Points
    cabin: Points
    glass: float = 0.76
    pillars: tuple[float, ...] = (47,)
    axles: tuple[float, float] = (20, 79)
    sill: float = 8
    badge: tuple[float, float] = (50, 20)

    @property
    def belt(self) -> float:
        """Where the lower body meets the cabin."""
        return self.cabin[0][1] if self.cabin else self.hull[2][1]

    @property
    def roof(self) -> tuple[float, float, float]:
        """Left end, right end and height of the roof (of the deck on an open car)."""
        points = self.cabin or self.hull
        top = max(y for _, y in points)
        flat = [x for x, y in points if y > top - 3]
        return min(flat), max(flat), top


BODIES = {
    "sedan": Body(
        hull=((0, 14), (0, 29), (4, 32), (74, 32), (96, 28), (100, 22)),
        cabin=((18, 31), (31, 50), (58, 50), (74, 31)),
    ),
    "hatch": Body(
        hull=((6, 14), (5, 30), (8, 32), (72, 32), (92, 28), (95, 22)),
        cabin=((6, 31), (15, 52), (54, 52), (74, 31)),
        axles=(22, 76),
    ),
    "wagon": Body(
        hull=((0, 14), (0, 30), (2, 32), (72, 32), (96, 29), (100, 22)),
        cabin=((1, 31), (7, 50), (57, 50), (74, 31)),
        pillars=(26, 48),
    ),
    "coupe": Body(
        hull=((0, 13), (0, 26), (5, 29), (66, 29), (94, 23), (100, 17)),
        cabin=((12, 28), (36, 42), (50, 42), (70, 27)),
        pillars=(),
        axles=(19, 80),
        sill=7,
        badge=(50, 18),
    ),
    "fastback": Body(
        hull=((0, 13), (0, 27), (3, 31), (72, 31), (96, 26), (100, 20)),
        cabin=((2, 30), (36, 48), (55, 48), (73, 30)),
        pillars=(46,),
    ),
    "suv": Body(
        hull=((1, 18), (1, 36), (3, 38), (72, 38), (96, 35), (99, 28)),
        cabin=((2, 37), (7, 59), (60, 59), (74, 37)),
        pillars=(25, 47),
        sill=13,
        badge=(50, 25),
    ),
    "jeep": Body(
        hull=((8, 18), (8, 36), (8, 38), (66, 38), (94, 37), (95, 30)),
        cabin=((9, 37), (9, 60), (61, 60), (64, 37)),
        pillars=(37,),
        axles=(23, 78),
        sill=14,
        badge=(50, 26),
    ),
    "pickup": Body(
        hull=((0, 16), (0, 32), (1, 33), (72, 33), (96, 31), (100, 24)),
        cabin=((37, 32), (40, 55), (61, 55), (74, 32)),
        pillars=(),
        sill=11,
        badge=(50, 22),
    ),
    "van": Body(
        hull=((2, 14), (2, 32), (3, 34), (80, 34), (94, 30), (97, 22)),
        cabin=((2, 32), (4, 64), (66, 64), (86, 32)),
        glass=0.7,
        pillars=(26, 50),
        badge=(50, 22),
    ),
    "bus": Body(
        hull=((0, 14), (0, 34), (0, 36), (90, 36), (99, 34), (100, 22)),
        cabin=((0, 34), (1, 62), (93, 62), (99, 34)),
        glass=0.7,
        pillars=(20, 38, 56, 74),
        badge=(50, 22),
    ),
    "truck": Body(
        hull=((62, 14), (62, 34), (62, 36), (88, 36), (98, 33), (100, 22)),
        cabin=((62, 34), (62, 56), (80, 56), (93, 34)),
        pillars=(),
        axles=(19, 80),
        badge=(31, 38),
    ),
    "roadster": Body(
        hull=((0, 13), (1, 27), (8, 31), (34, 30), (40, 27), (60, 29), (92, 25), (100, 18)),
        cabin=(),
        sill=7,
        badge=(50, 18),
    ),
    "micro": Body(
        hull=((16, 14), (15, 29), (17, 31), (70, 31), (83, 27), (85, 20)),
        cabin=((16, 30), (26, 56), (56, 58), (78, 30)),
        pillars=(50,),
        axles=(28, 73),
        badge=(50, 19),
    ),
}
