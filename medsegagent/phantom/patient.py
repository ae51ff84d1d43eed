"""A synthetic patient: an image, its truth and where it lies in space, all from one seed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medsegagent.errors import UsageError
from medsegagent.images.volume import Grid
from medsegagent.phantom.anatomy import Points, Tissue, tissues

Contrast = Literal["CT", "MR"]

STRUCTURES: dict[str, tuple[Tissue, ...]] = {
    "lung_left": (Tissue.LUNG_LEFT,),
    "lung_right": (Tissue.LUNG_RIGHT,),
    "liver": (Tissue.LIVER,),
    "liver_lesion": (Tissue.LIVER_LESION,),
    "spleen": (Tissue.SPLEEN,),
    "kidney_left": (Tissue.KIDNEY_LEFT,),
    "kidney_right": (Tissue.KIDNEY_RIGHT,),
    "stomach": (Tissue.STOMACH,),
    "aorta": (Tissue.AORTA,),
    "bladder": (Tissue.BLADDER,),
    "vertebrae": (Tissue.VERTEBRAE,),
}
"""Structure -> the values of `Patient.labels` it covers. The liver is without its lesion."""

_FIELD_OF_VIEW = (350.0, 250.0, 330.0)
"""mm along the patient's left-right, front-back and foot-head axes."""
_AXES = {"R": (-1, 0, 0), "L": (1, 0, 0), "A": (0, -1, 0), "P": (0, 1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
ORIENTATIONS = tuple(
    "".join(order[axis] for axis in axes)
    for order in itertools.product("RL", "AP", "SI")
    for axes in itertools.permutations(range(3))
)
"""The 48 ways in which a file's x, y, z index axes can lie in the patient, e.g. "RAS": towards right, front, head."""

# Mean and standard deviation over patients, in HU for CT and in units of fat for MR (roughly T2-weighted).
_INTENSITY: dict[Contrast, dict[Tissue, tuple[float, float]]] = {
    "CT": {
        Tissue.AIR: (-1000, 0),
        Tissue.FAT: (-100, 8),
        Tissue.MUSCLE: (55, 6),
        Tissue.BOWEL: (25, 12),
        Tissue.HEART: (125, 15),
        Tissue.BONE: (420, 50),
        Tissue.LUNG_LEFT: (-820, 25),
        Tissue.LUNG_RIGHT: (-820, 25),
        Tissue.LIVER: (108, 8),
        Tissue.LIVER_LESION: (48, 8),
        Tissue.SPLEEN: (122, 10),
        Tissue.KIDNEY_LEFT: (178, 14),
        Tissue.KIDNEY_RIGHT: (178, 14),
        Tissue.STOMACH: (22, 8),
        Tissue.STOMACH_GAS: (-900, 20),
        Tissue.AORTA: (150, 15),
        Tissue.BLADDER: (6, 4),
        Tissue.VERTEBRAE: (260, 30),
    },
    "MR": {
        Tissue.AIR: (0.0, 0.0),
        Tissue.FAT: (0.8, 0.06),
        Tissue.MUSCLE: (0.2, 0.03),
        Tissue.BOWEL: (0.55, 0.06),
        Tissue.HEART: (0.3, 0.04),
        Tissue.BONE: (0.12, 0.02),
        Tissue.LUNG_LEFT: (0.04, 0.01),
        Tissue.LUNG_RIGHT: (0.04, 0.01),
        Tissue.LIVER: (0.36, 0.03),
        Tissue.LIVER_LESION: (0.66, 0.05),
        Tissue.SPLEEN: (0.58, 0.04),
        Tissue.KIDNEY_LEFT: (0.7, 0.05),
        Tissue.KIDNEY_RIGHT: (0.7, 0.05),
        Tissue.STOMACH: (0.95, 0.08),
        Tissue.STOMACH_GAS: (0.03, 0.01),
        Tissue.AORTA: (0.07, 0.02),
        Tissue.BLADDER: (1.15, 0.08),
        Tissue.VERTEBRAE: (0.45, 0.04),
    },
}


@dataclass(frozen=True)
class Patient:
    """One synthetic patient.

    Attributes:
        image: float32 `(Z, Y, X)`: HU for CT, arbitrary units >= 0 for MR.
        labels: uint8 `(Z, Y, X)`: `Tissue` values up to `VERTEBRAE`, 0 elsewhere.
        grid: Where both lie in the patient.
        contrast: "CT" or "MR".
        seed: What it was made from.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    grid: Grid
    contrast: Contrast
    seed: int

    def mask(self, *structures: str) -> NDArray[np.bool_]:
        """The union of the named `STRUCTURES`, bool `(Z, Y, X)`."""
        return np.isin(self.labels, [tissue for name in structures for tissue in STRUCTURES[name]])


def make_patient(seed: int, contrast: Contrast = "CT", orientation: str | None = None) -> Patient:
    """Make a patient; the same arguments always give the same one.

    Shape, position, spacing (about 4 to 5 mm) and noise are drawn from the seed, and so are the file's axis order and
    a slight tilt of the scan, unless `orientation` asks for a straight scan with its axes in that order.

    Args:
        seed: >= 0. CT and MR of one seed show the same anatomy on the same grid.
        contrast: "CT" (portal venous, HU) or "MR" (T2-like, with a bias field).
        orientation: One of `ORIENTATIONS`.

    Raises:
        UsageError: If there is no such orientation.
    """
    if orientation is not None and orientation not in ORIENTATIONS:
        raise UsageError(f"no such orientation: {orientation!r}", "Use e.g. 'RAS' or 'LPS'.")
    rng = np.random.default_rng(seed)
    tilt = Rotation.from_euler("xyz", rng.normal(0.0, 1.5, 3), degrees=True).as_matrix()
    drawn = ORIENTATIONS[int(rng.integers(len(ORIENTATIONS)))]
    grid = _grid(orientation or drawn, np.eye(3) if orientation else tilt, rng)
    points = grid.points(np.indices(grid.shape).reshape(3, -1)[::-1].T)
    centred: Points = (points - _middle(grid)).astype(np.float32)
    materials = tissues(centred, grid.shape, float(np.mean(grid.spacing)), rng)
    image = _scan(materials, contrast, centred.reshape(*grid.shape, 3), rng)
    materials[materials == Tissue.STOMACH_GAS] = Tissue.STOMACH
    labels = np.where(materials <= Tissue.VERTEBRAE, materials, np.uint8(0))
    return Patient(image=image, labels=labels, grid=grid, contrast=contrast, seed=seed)


def demo_patient(seed: int) -> Patient:
    """A CT that no demo model has seen in training, whatever the seed (>= 0)."""
    return make_patient(DEMO_SEEDS + seed, contrast="CT")


DEMO_SEEDS = 1_000_000
"""Demo patients count from here; training patients stay far below (see `train.py`)."""


def write_patient(patient: Patient, path: Path) -> None:
    """Write the image in any format that SimpleITK knows by the file's ending, e.g. `.nii.gz`."""
    write_array(np.rint(patient.image).astype(np.int16), patient.grid, path)  # scanners store integers


def write_array(array: NDArray[np.generic], grid: Grid, path: Path) -> None:
    """Write `array`, `(Z, Y, X)` on `grid`, in the format that the file's ending says."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    SimpleITK.WriteImage(image, str(path), True)


def _grid(orientation: str, tilt: NDArray[np.float64], rng: np.random.Generator) -> Grid:
    spacing_lps = rng.uniform(4.2, 5.0) * rng.uniform(0.95, 1.05, 3)
    axes = np.array([_AXES[letter] for letter in orientation])
    patient_axis = np.abs(axes).argmax(axis=1)
    spacing = spacing_lps[patient_axis]
    size = np.rint(np.array(_FIELD_OF_VIEW)[patient_axis] / spacing).astype(int)
    direction = tilt @ axes.T
    scanner_offset = rng.uniform(-120.0, 120.0, 3)
    origin = scanner_offset - direction @ (spacing * (size - 1) / 2)
    return Grid(
        size=(int(size[0]), int(size[1]), int(size[2])),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(value) for value in direction.ravel()),
    )


def _middle(grid: Grid) -> NDArray[np.float64]:
    return np.asarray(grid.points((np.array([grid.size]) - 1) / 2)[0])


def _scan(
    materials: NDArray[np.uint8], contrast: Contrast, points: Points, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Image the materials: partial volume, texture, noise, and for MR a bias field."""
    levels = np.zeros(max(Tissue) + 1)
    for tissue, (mean, spread) in _INTENSITY[contrast].items():
        levels[tissue] = rng.normal(mean, spread)
    for left, right in ((Tissue.LUNG_LEFT, Tissue.LUNG_RIGHT), (Tissue.KIDNEY_LEFT, Tissue.KIDNEY_RIGHT)):
        levels[right] = levels[left]
    ideal = ndimage.gaussian_filter(levels[materials], 0.5)
    if contrast == "CT":
        noise = ndimage.gaussian_filter(rng.normal(size=ideal.shape), 0.6)
        return np.asarray(ideal + noise / noise.std() * rng.uniform(10.0, 18.0), np.float32)
    waves = points @ (rng.normal(size=(3, 2)) * 0.008).astype(np.float32) + rng.uniform(0, 6.28, 2).astype(np.float32)
    biased = ideal * np.exp(0.22 * np.sin(waves).sum(axis=-1))
    channels = rng.normal(0.0, rng.uniform(0.02, 0.035), (2, *ideal.shape))
    magnitude = np.hypot(biased + channels[0], channels[1])  # Rician, as in magnitude images
    return np.asarray(magnitude * rng.uniform(300.0, 900.0), np.float32)
