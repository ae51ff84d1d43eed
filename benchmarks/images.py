"""Time and memory to read a CT series of 512 x 512 x 600 and to write each format, against ITK's own series reader.

Run: python benchmarks/images.py [--slices 600] [--size 512]. Each step runs in a process of its own, so that its peak
memory is its own. Needs 1 GB of disk in the temporary folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ORGANS = 6


def write_series(folder: Path, size: int, slices: int) -> None:
    """A CT series of noise on soft tissue, uncompressed."""
    from pydicom import FileDataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    random = np.random.default_rng(0)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for number in range(slices):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", 1, number + 1
        data.PixelSpacing, data.ImageOrientationPatient = [0.7, 0.7], [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient, data.SliceThickness = [-179, -179, number * 1.0], 1.0
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.Rows = data.Columns = size
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.PixelData = random.normal(1064, 20, (size, size)).astype("<u2").tobytes()
        data.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def organs(size: int, slices: int) -> list[NDArray[np.bool_]]:
    """Ellipsoids side by side, together about 5 % of the volume."""
    z, y, x = np.ogrid[:slices, :size, :size]
    found = []
    for number in range(ORGANS):
        centre = (0.5, 0.35 + 0.3 * (number // 3), 0.2 + 0.3 * (number % 3))
        parts = [
            ((i - c * n) / (0.12 * n)) ** 2 for i, c, n in zip((z, y, x), centre, (slices, size, size), strict=True)
        ]
        found.append(sum(parts) < 1)
    return found


def read_ours(folder: Path) -> None:
    from medsegagent.images.read import read_volume

    read_volume(folder)


def read_itk(folder: Path) -> None:
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    sitk.GetArrayFromImage(reader.Execute()).astype(np.float32)


def writer(name: str, size: int, slices: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from medsegagent.export.formats import DICOM_FORMATS, export
        from medsegagent.export.segment import Segment, Segments
        from medsegagent.images.dicom import read_source

        source = read_source(folder)
        items = [Segment(f"o{i}", f"o{i}", mask, i + 1, (9, 9, 9)) for i, mask in enumerate(organs(size, slices))]
        with tempfile.TemporaryDirectory() as out:
            started, busy = time.perf_counter(), time.process_time()
            export(Segments(source.grid, tuple(items)), Path(out), [name], source if name in DICOM_FORMATS else None)
            megabytes = sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file()) / 1e6
            wall, cpu = time.perf_counter() - started, time.process_time() - busy
            print(f"  {name}: {wall:.1f} s, CPU {cpu:.1f} s for the writing alone, {megabytes:.1f} MB")

    return write


def measure(name: str, step: Callable[[Path], None], folder: Path) -> None:
    """Run a step in a fresh process; print wall time, CPU time and peak memory."""

    def run() -> None:
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        step(folder)
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime
        peak = (used.ru_maxrss - before) / 1e6
        print(f"{name}: {time.perf_counter() - started:.1f} s, CPU {cpu:.1f} s, peak +{peak:.2f} GB", flush=True)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--size", type=int, default=512)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_series(folder, given.size, given.slices)
        array = given.size**2 * given.slices * 4 / 1e9
        print(f"{given.size} x {given.size} x {given.slices}: {array:.2f} GB as float32")
        measure("read, medsegagent", read_ours, folder)
        measure("read, SimpleITK", read_itk, folder)
        for name in ("nifti", "nrrd", "dicom-seg", "rtstruct", "stl", "obj"):
            measure(f"write {name} ({ORGANS} organs)", writer(name, given.size, given.slices), folder)


if __name__ == "__main__":
    main()
