"""Where a mask lies in the patient and how big it is: centroid, box, diameters, surface, components."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.ndimage import label
from scipy.spatial import ConvexHull, QhullError, SphericalVoronoi
from scipy.spatial.distance import pdist

from medsegagent.images.boxed import Boxed
from medsegagent.images.geometry import patient_axes
from medsegagent.images.volume import Grid

Point = tuple[float, float, float]


class Shape(BaseModel):
    """Geometry of one mask; patient coordinates are mm, LPS (x to the left, y to the back, z to the head).

    `largest_share` is the part of the voxels that is in the largest of the `components` (26-connected).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    centroid_mm: Point
    box_min_mm: Point
    box_max_mm: Point
    largest_axial_diameter_mm: float
    largest_diameter_mm: float
    surface_cm2: float
    components: int
    largest_share: float


def measure_shape(mask: Boxed[np.bool_], grid: Grid) -> Shape | None:
    """Measure a mask; None if it is empty.

    The box holds whole voxels, along the patient's axes whatever the grid's. Diameters run between the middles of
    voxel faces, so that a row of three 2 mm voxels is 6 mm long; the axial one lies in one slice of the index axis
    nearest to the patient's long axis. The surface is Crofton's, see `surface_area`.
    """
    if not mask.any():
        return None
    inside = mask.inside
    start = np.array([part.start for part in mask.box])[::-1]
    rows = _row_ends(inside)
    ends = _face_middles(_hull(rows))
    middles = grid.points(rows[:, ::-1] + start)
    half = np.abs(np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing)).sum(axis=1) / 2
    components, count = label(inside, structure=np.ones((3, 3, 3)))
    return Shape(
        centroid_mm=_point(grid.points((_centre(inside) + start)[None])[0]),
        box_min_mm=_point(middles.min(axis=0) - half),
        box_max_mm=_point(middles.max(axis=0) + half),
        largest_axial_diameter_mm=_axial_diameter(inside, grid),
        largest_diameter_mm=_diameter(ends * np.array(grid.spacing)),
        surface_cm2=surface_area(inside, grid.spacing) / 100,
        components=count,
        largest_share=float(np.bincount(components.ravel())[1:].max() / mask.count),
    )


def surface_area(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> float:
    """Estimate the surface of the body that a mask samples, mm2, by Crofton's formula over 13 directions.

    Twice the mean over all directions of what lines cross per unit of area they cover; counts of crossings between
    neighbours stand for the lines, weighted by each direction's Voronoi cell on the sphere. Unlike the area of a
    triangle mesh it is not inflated by voxel steps. (Lang, Ohser & Hilfer, J Microsc 203:303-313, 2001.)

    Args:
        mask: `(Z, Y, X)`.
        spacing: mm along x, y, z.
    """
    steps = np.array([step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)])  # one of each +- pair
    lines = steps * np.array(spacing[::-1])
    lengths = np.linalg.norm(lines, axis=1)
    units = lines / lengths[:, None]
    shares = SphericalVoronoi(np.concatenate([units, -units])).calculate_areas()[: len(steps)] / (2 * np.pi)
    padded = np.pad(mask, 1)
    crossings = [_crossings(padded, step) for step in steps]
    return float(2 * np.sum(shares * np.array(crossings) * float(np.prod(spacing)) / lengths))


def _crossings(padded: NDArray[np.bool_], step: NDArray[np.int_]) -> int:
    """Count neighbours in the direction of `step` of which one is in the mask."""
    here = tuple(slice(max(0, -d), -d if d > 0 else None) for d in step)
    there = tuple(slice(max(0, d), d if d < 0 else None) for d in step)
    return int(np.count_nonzero(padded[here] != padded[there]))


def _row_ends(inside: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Return the first and last voxel of every row along x, `(N, 3)` in z, y, x: all that a hull can touch."""
    z, y = np.nonzero(inside.any(axis=2))
    rows = inside[z, y]
    first = rows.argmax(axis=1)
    last = inside.shape[2] - 1 - rows[:, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([z, y, first], axis=1), np.stack([z, y, last], axis=1)])


def _face_middles(rows: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return the six face middles of each voxel, `(6 N, 3)` in x, y, z index units."""
    steps = np.concatenate([np.eye(3), -np.eye(3)]) / 2
    middles: NDArray[np.float64] = (rows[:, None, ::-1] + steps).reshape(-1, 3)
    return middles


def _centre(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean index, x, y, z, from one sum per axis: a list of all voxels would take 24 bytes for each."""
    sums = [inside.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in (2, 1, 0)]
    return np.array([np.average(np.arange(len(held)), weights=held) for held in sums])


def _hull(points: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the points that span the convex hull of all; all of them if they lie in a plane."""
    try:
        corners: NDArray[np.int_] = points[ConvexHull(points).vertices]
    except QhullError:
        return points
    return corners


def _diameter(points: NDArray[np.float64]) -> float:
    """Return the largest distance between any two points; they must span their space."""
    hull = points[ConvexHull(points).vertices]
    return float(pdist(hull).max())


def _axial_diameter(inside: NDArray[np.bool_], grid: Grid) -> float:
    """Return the largest distance within one axial slice."""
    axis = 2 - patient_axes(grid).index(2)
    mm = np.delete(np.array(grid.spacing[::-1]), axis)
    steps = np.concatenate([np.eye(2), -np.eye(2)]) / 2
    ends = (_row_ends(cut[None])[:, 1:] for cut in np.moveaxis(inside, axis, 0) if cut.any())
    return max(_diameter(((voxels[:, None] + steps) * mm).reshape(-1, 2)) for voxels in ends)


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z
