"""Synthetic DICOM, written with pydicom alone; the package is not used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

AXIAL = (1.0, 0, 0, 0, 1, 0)
CORONAL = (1.0, 0, 0, 0, 0, -1)
SAGITTAL = (0, 1.0, 0, 0, 0, -1)
OBLIQUE = (0.9063078, 0.4226183, 0.0, -0.3659982, 0.7848856, 0.5)
"""Row and column cosines: 25 degrees about z, then 30 degrees about the new x."""

SECRETS = ("DOE^JANE", "DOE", "HOSP-4711", "19610203", "20240506", "ACC99812", "Dr^Strange")
"""What is in every header and must never be seen again."""

CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}


def ball(shape: tuple[int, int, int] = (12, 24, 20), low: int = -1000, high: int = 60) -> NDArray[np.int16]:
    """A bright ellipsoid off the centre, on a ramp, so that no two slices or directions look alike; Z, Y, X."""
    z, y, x = np.indices(shape)
    centre = np.array(shape) * (0.5, 0.4, 0.6)
    inside = sum(((i - c) / (n * 0.3)) ** 2 for i, c, n in zip((z, y, x), centre, shape, strict=True)) < 1
    return np.where(inside, high + z * 3 + x, low + y).astype(np.int16)


def header(modality: str = "CT", number: int = 3, description: str = "Abdomen 1.0", **tags: Any) -> FileDataset:
    """One object with a patient in it and no image yet."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CLASSES.get(modality, CTImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "DOE^JANE", "HOSP-4711", "19610203"
    dataset.PatientSex, dataset.StudyID, dataset.AccessionNumber = "F", "1", "ACC99812"
    dataset.ReferringPhysicianName = "Dr^Strange"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = "20240506"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101500"
    dataset.ContentDate = "20240506"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[f"series {number}"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame"])
    dataset.Modality, dataset.SeriesNumber, dataset.SeriesDescription = modality, number, description
    dataset.Manufacturer, dataset.PositionReferenceIndicator = "Nobody", ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    return dataset


def set_pixels(dataset: Dataset, image: NDArray[np.int16]) -> None:
    """Put one slice, or frames, into an object."""
    dataset.Rows, dataset.Columns = image.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = np.ascontiguousarray(image).astype("<i2").tobytes()


def positions(
    count: int, turn: Sequence[float] = AXIAL, step: float = 2.5, origin: Sequence[float] = (-80.0, -120.0, 300.0)
) -> NDArray[np.float64]:
    """Positions of an even stack along row x column."""
    normal = np.cross(turn[:3], turn[3:])
    return np.array(origin) + np.arange(count)[:, None] * step * normal


def slices(
    array: NDArray[np.int16],
    turn: Sequence[float] = AXIAL,
    where: NDArray[np.float64] | None = None,
    spacing: tuple[float, float] = (0.8, 0.7),
    **tags: Any,
) -> list[FileDataset]:
    """A classic series, one object per slice; `spacing` is between rows, between columns."""
    where = positions(len(array), turn) if where is None else where
    found = []
    for number, (image, position) in enumerate(zip(array, where, strict=True), 1):
        dataset = header(**tags)
        dataset.InstanceNumber, dataset.AcquisitionNumber = number, 1
        dataset.ImagePositionPatient = [f"{value:.6f}"[:16] for value in position]
        dataset.ImageOrientationPatient = [f"{value:.9f}" for value in turn]
        dataset.PixelSpacing, dataset.SliceThickness = list(spacing), 2.5
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.KVP = 120
        set_pixels(dataset, image)
        found.append(dataset)
    return found


def save(datasets: Sequence[FileDataset], folder: Path, name: Callable[[int], str] | None = None) -> Path:
    """Write objects in a shuffled order, under names that say nothing about the order."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(datasets))
    for file, i in enumerate(order):
        target = folder / (name(int(i)) if name else f"IM{file:04d}")
        target.parent.mkdir(parents=True, exist_ok=True)
        datasets[int(i)].save_as(target, enforce_file_format=True)
    return folder


def enhanced(
    array: NDArray[np.int16], turn: Sequence[float] = AXIAL, spacing: tuple[float, float] = (0.8, 0.7), **tags: Any
) -> FileDataset:
    """The same volume as one enhanced multi-frame object, its frames stored from the last slice to the first."""
    dataset = header(**tags)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    dataset.NumberOfFrames, dataset.InstanceNumber = len(array), 1
    shared, measures, plane, values = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(spacing), 2.5
    plane.ImageOrientationPatient = [f"{value:.9f}" for value in turn]
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 2, -24, "HU"
    shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([plane])
    shared.PixelValueTransformationSequence = Items([values])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for number, position in enumerate(positions(len(array), turn)[::-1], 1):
        own, place, content = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [f"{value:.6f}"[:16] for value in position]
        content.StackID, content.InStackPositionNumber = "1", number
        content.DimensionIndexValues = [1, number]
        own.PlanePositionSequence, own.FrameContentSequence = Items([place]), Items([content])
        frames.append(own)
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    set_pixels(dataset, array[::-1])
    return dataset


def pet(array: NDArray[np.int16], **tags: Any) -> list[FileDataset]:
    """A PET series in Bq/mL: 70 kg, 350 MBq of F-18 injected an hour before the scan, slopes that differ."""
    found = slices(array, modality="PT", **tags)
    for number, dataset in enumerate(found):
        dataset.Units, dataset.DecayCorrection, dataset.CorrectedImage = "BQML", "START", ["ATTN", "DECY"]
        dataset.PatientWeight, dataset.RescaleSlope = 70, 1 + number / 4
        tracer = Dataset()
        tracer.RadiopharmaceuticalStartTime, tracer.RadionuclideTotalDose = "091500", 350e6
        tracer.RadionuclideHalfLife = 6588
        dataset.RadiopharmaceuticalInformationSequence = Items([tracer])
    return found
