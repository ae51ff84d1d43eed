"""The inference engine against nnU-Net's own code: time, memory, and whether every label is the same.

    python benchmarks/inference.py [export] [preprocess] [matrix] [small] [large] [classes118] [three] [shortcuts]

Without arguments all of them, in some fifteen minutes. Both sides run side by side on the same image and model folder,
on this machine's CPU. The models are the small ones that benchmarks/real_ct.py trains, the one with 118 classes is
untrained. Prints a table per part and a last line of JSON. Skips where ../shared/data is absent.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import numpy as np
import SimpleITK
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
BUILD = ROOT / "build" / "inference"
sys.path[:0] = [
    str(ROOT),
    str(ROOT / "tests" / "engines" / "nnunet"),
    str(ROOT / "tests" / "engines"),
    str(ROOT / "benchmarks"),
]

INSTRUCTION = "Segment the liver, the spleen, the left kidney and the right kidney in this CT"
TARGETS = ("liver", "spleen", "kidney_right", "kidney_left")
LARGE, MIDDLE = (512, 512, 250), (244, 202, 224)
NETWORK: dict[str, Any] = {"spacing": (3.0, 3.0, 3.0), "patch": (64, 64, 64), "features": (8, 16, 32)}
OUT = Console(width=120)


@dataclass
class Measured:
    """Wall time, and the peak above where memory started."""

    seconds: float = 0.0
    megabytes: float = 0.0


class Watch:
    """Wall time, and peak memory above the start, of this process or of a process and its children."""

    def __init__(self, memory: Callable[[], int], every: float = 0.01) -> None:
        self._memory, self._every, self.measured = memory, every, Measured()

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._base = self._memory()
        self._peak, self._started = self._base, time.perf_counter()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.measured.seconds = time.perf_counter() - self._started
        self._stop.set()
        self._thread.join()
        self.measured.megabytes = (self._peak - self._base) / 2**20

    def _look(self) -> None:
        while not self._stop.wait(self._every):
            self._peak = max(self._peak, self._memory())


def own_memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def tree_memory() -> int:
    """Proportional set size of this process's children: shared pages are not counted twice."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    family = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    size = 0
    for member in family - {os.getpid()}:
        with suppress(OSError):
            rows = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            size += sum(int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss:"))
    return size


def scan(size: tuple[int, int, int] | None = None) -> SimpleITK.Image:
    image = SimpleITK.ReadImage(str(DATA / "ct_abdomen.nii.gz"), SimpleITK.sitkFloat32)
    if size is None:
        return image
    spacing = [mm * old / new for mm, old, new in zip(image.GetSpacing(), image.GetSize(), size, strict=True)]
    geometry = (image.GetOrigin(), spacing, image.GetDirection(), -1024.0)
    return SimpleITK.Resample(image, size, SimpleITK.Transform(), SimpleITK.sitkLinear, *geometry)


def export() -> dict[str, float]:
    """118 classes at 3 mm, made from a real segmentation, to two sizes."""
    from test_export import case, nnunets

    from medsegagent.engines.nnunet.export import export_labels, is_finite

    values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(DATA / "ct_abdomen_reference_3mm.nii.gz")))
    rng = np.random.default_rng(0)
    logits = np.empty((118, *values.shape), np.float16)
    for value in range(118):
        smooth = gaussian_filter((values == value).astype(np.float32), 1.0)
        logits[value] = smooth * 16 - 8 + rng.normal(0, 0.3, values.shape)
    export_labels(*case(logits[:, :3, :3, :3], (5, 5, 5)))  # compile, or load what was compiled before
    table = Table("118 classes to", "whose", "s", "MB above the logits", "voxels differing", title="export")
    figures: dict[str, float] = {}
    for size in (MIDDLE, LARGE):
        shape = size[::-1]
        made = case(logits, shape, scan=tuple(3 * old / new for old, new in zip(values.shape, shape, strict=True)))
        runs = []
        for _ in range(5):
            with Watch(own_memory) as ours:
                assert is_finite(made[0])
                own = export_labels(*made)
            runs.append(ours.measured)
        ours.measured.seconds = median(run.seconds for run in runs)
        ours.measured.megabytes = max(run.megabytes for run in runs)
        row = ("x".join(map(str, size)), "ours", f"{ours.measured.seconds:.2f}", f"{ours.measured.megabytes:.0f}")
        if size == LARGE:
            table.add_row(*row, "no reference: nnU-Net's needs about 30 GB")
            figures |= {"export_seconds_large": ours.measured.seconds, "export_mb_large": ours.measured.megabytes}
            continue
        with Watch(own_memory) as theirs:
            reference = nnunets(*made)
        differing = int((own != reference).sum())
        table.add_row(*row, str(differing))
        table.add_row("", "nnU-Net's", f"{theirs.measured.seconds:.1f}", f"{theirs.measured.megabytes:.0f}")
        figures["export_ratio_118"] = theirs.measured.seconds / ours.measured.seconds
        figures["export_memory_ratio_118"] = theirs.measured.megabytes / max(ours.measured.megabytes, 1.0)
        figures["export_differing"] = differing
    OUT.print(table)
    return figures


def preprocess() -> dict[str, float]:
    """Cubic resampling of the scan at 512x512x250 to 3 mm."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    from medsegagent.engines.nnunet.network import load_network
    from medsegagent.engines.nnunet.preprocess import preprocess as prepare
    from medsegagent.models.installed import NnunetFolder

    folder = model("Dataset901_TotalSegmentator_v2", TARGETS)
    trained = load_network(NnunetFolder(folder=folder, folds=(0,), checkpoint="checkpoint_final.pth", labels={}))
    image = scan(LARGE)
    array, spacing = SimpleITK.GetArrayFromImage(image)[None], list(image.GetSpacing())[::-1]
    with Watch(own_memory) as ours:
        own, _ = prepare(array.copy(), spacing, trained)
    given = (trained.plans, trained.configuration, trained.dataset)
    with Watch(own_memory) as theirs:
        reference, _, _ = DefaultPreprocessor(verbose=False).run_case_npy(array, None, {"spacing": spacing}, *given)
    differing = int((own != reference).sum())
    table = Table("512x512x250", "s", "MB", title="preprocessing")
    for name, side in (("ours", ours.measured), ("nnU-Net's", theirs.measured)):
        table.add_row(name, f"{side.seconds:.2f}", f"{side.megabytes:.0f}")
    table.add_row("voxels differing", str(differing))
    OUT.print(table)
    return {"preprocess_ratio": theirs.measured.seconds / ours.measured.seconds, "preprocess_differing": differing}


def matrix() -> dict[str, float]:
    """The cases of tests/engines/nnunet/test_export.py."""
    from test_export import MATRIX, export_labels, nnunets

    differing = {name: int((export_labels(*made) != nnunets(*made)).sum()) for name, made in MATRIX.items()}
    table = Table("case", "voxels differing", title="exactness matrix")
    for name, count in differing.items():
        table.add_row(name, str(count))
    OUT.print(table)
    return {"matrix_cases": len(differing), "matrix_differing": sum(differing.values())}


def model(dataset: str, names: Sequence[str], **options: Any) -> Path:
    """An untrained model in nnU-Net's layout, labels numbered from 1."""
    from tiny_models import write_model

    shutil.rmtree(BUILD / "results" / dataset, ignore_errors=True)
    labels = {"background": 0} | {name: value for value, name in enumerate(names, 1)}
    return write_model(BUILD / "results", labels, name=dataset, mirror_axes=None, **(NETWORK | options))


def ours(size: tuple[int, int, int] | None, folders: Sequence[Path]) -> Measured:
    """`medsegagent segment` on the scan at this size, into `work/ours`; the scan is left in `work/in`."""
    work = BUILD / "work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "in").mkdir(parents=True)
    image = work / "in" / "case_0000.nii.gz"
    SimpleITK.WriteImage(scan(size), str(image))
    command = [sys.executable, "-m", "medsegagent", "segment", INSTRUCTION, "-i", str(image), "-o", str(work / "ours")]
    command += ["--library", "benchmark", "--models-dir", str(folders[0].parents[1]), "--keep-predictions"]
    for folder in folders:
        command += ["--only", f"{folder.parent.name}/3d_fullres"]
    return run([*command, "--device", "cpu", "--no-input"])


def end_to_end(title: str, size: tuple[int, int, int] | None, folders: Sequence[Path]) -> tuple[float, float, int]:
    """`medsegagent segment` once, nnU-Net's command once per model: time ratio, memory ratio, differing voxels."""
    work, own = BUILD / "work", ours(size, folders)
    tool = Path(sys.executable).with_name("nnUNetv2_predict_from_modelfolder")
    theirs, differing = Measured(), 0
    for index, folder in enumerate(folders):
        out = work / f"nnunet{index}"
        arguments = ["-i", str(work / "in"), "-o", str(out), "-m", str(folder), "-f", fold_of(folder), "-device", "cpu"]
        one = run([str(tool), *arguments, "--disable_progress_bar"])
        theirs = Measured(theirs.seconds + one.seconds, max(theirs.megabytes, one.megabytes))
        differing += count_differing(work / "ours" / "predictions", out / "case.nii.gz", folder)
    table = Table(title, "s", "peak MB", title="end to end")
    table.add_row("medsegagent segment", f"{own.seconds:.1f}", f"{own.megabytes:.0f}")
    table.add_row(f"nnU-Net's command x {len(folders)}", f"{theirs.seconds:.1f}", f"{theirs.megabytes:.0f}")
    table.add_row("voxels differing", str(differing))
    OUT.print(table)
    return theirs.seconds / own.seconds, theirs.megabytes / own.megabytes, differing


def fold_of(folder: Path) -> str:
    return next(folder.glob("fold_*")).name.removeprefix("fold_")


def run(command: list[str]) -> Measured:
    with Watch(tree_memory, every=0.2) as watch:  # looking costs the watched ones time
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return watch.measured


def count_differing(predictions: Path, reference: Path, folder: Path) -> int:
    """Voxels in which a model's masks differ from nnU-Net's label map."""
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(reference)))
    named = json.loads((folder / "dataset.json").read_text())["labels"]
    values = {frozenset(name.lower().replace("_", " ").split()): value for name, value in named.items()}
    differing = 0
    files = {target: predictions / f"{folder.parent.name}__3d_fullres" / f"{target}.nii.gz" for target in TARGETS}
    for target, file in files.items():
        if not file.exists():  # CT-ORG does not tell the kidneys apart
            continue
        mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file))) > 0
        differing += int((mask != (labels == values[frozenset(target.split("_"))])).sum())
    return differing


def trained(count: int) -> list[Path]:
    """The first of the small models that benchmarks/real_ct.py trains on this CT (some minutes, once)."""
    import real_ct

    from medsegagent.images.read import read_volume

    volume = read_volume(DATA / "ct_abdomen.nii.gz")
    reference = real_ct.load(DATA / "ct_abdomen_reference_3mm.nii.gz")
    results = real_ct.BUILD / "nnUNet_results"
    for seed, (dataset, names) in enumerate(list(real_ct.CONVENTIONS.items())[:count]):
        real_ct.prepare(dataset, names, seed, volume, reference, results, OUT)
    return [results / dataset / "nnUNetTrainer__nnUNetPlans__3d_fullres" for dataset in real_ct.CONVENTIONS][:count]


def small() -> dict[str, float]:
    ratio, _, differing = end_to_end("6 classes, CT as it is", None, trained(1))
    return {"cpu_small_ratio": ratio, "cpu_small_differing": differing}


def large() -> dict[str, float]:
    ratio, memory, differing = end_to_end("6 classes, 512x512x250", LARGE, trained(1))
    return {"cpu_large_ratio": ratio, "peak_memory_ratio_large": memory, "cpu_large_differing": differing}


def classes118() -> dict[str, float]:
    from medsegagent.cards.library import Library

    names = tuple(Library.load("benchmark").get("TotalSegmentator_v2").labels)
    folder = model("Dataset902_TotalSegmentator_v2", names)
    ratio, memory, differing = end_to_end(f"{len(names) + 1} classes, 244x202x224", MIDDLE, [folder])
    figures = {"cpu_118_ratio": ratio, "peak_memory_ratio_118": memory, "cpu_118_differing": differing}
    # nnU-Net's own export would need about 30 GB here.
    alone = ours(LARGE, [folder])
    OUT.print(f"{len(names) + 1} classes, 512x512x250: {alone.seconds:.1f} s, {alone.megabytes:.0f} MB")
    return figures | {"cpu_118_large_seconds": alone.seconds, "cpu_118_large_mb": alone.megabytes}


def three() -> dict[str, float]:
    ratio, _, differing = end_to_end("three models, CT as it is", None, trained(3))
    return {"three_models_ratio": ratio, "three_models_differing": differing}


def shortcuts() -> dict[str, float]:
    """--fast and --roi auto on the real CT with a trained network: seconds, and how far from the usual answer.

    The coarse model that --roi needs is the fine one under another name: what is measured is what the box changes.
    """
    import real_ct

    dataset, names = next(iter(real_ct.CONVENTIONS.items()))
    results = trained(1)[0].parents[1]
    models = [
        {"id": f"own/{name}", "spacing_mm": [mm] * 3, "voter": "own"} for name, mm in (("fine", 5), ("coarse", 10))
    ]
    card = {"name": "Own", "channel_names": {"0": "CT"}, "labels": {name: i for i, name in enumerate(names, 1)}}
    card["models"] = [model | {"parts": [{"dataset_folder": dataset}]} for model in models]
    (BUILD / "cards").mkdir(parents=True, exist_ok=True)
    (BUILD / "cards" / "Own.json").write_text(json.dumps(card))
    table = Table("targets", "options", "s", "voxels differing", "lowest Dice", title="options that trade")
    figures: dict[str, float] = {}
    for targets in ("liver, spleen and both kidneys", "spleen"):
        seconds, usual = shortcut(targets, results)
        table.add_row(targets, "", f"{seconds:.1f}", "", "")
        for options in (("--fast",), ("--roi", "auto")):
            own, labels = shortcut(targets, results, *options)
            values = np.unique(usual[usual > 0])
            lowest = min(real_ct.dice(labels == value, usual == value) for value in values)
            differing = int((labels != usual).sum())
            share = f"{differing} of {int((usual > 0).sum())}"
            table.add_row("", " ".join(options), f"{own:.1f}", share, f"{lowest:.4f}")
            key = f"{options[0].strip('-')}_{len(values)}_structures"
            figures |= {f"{key}_seconds_ratio": seconds / own, f"{key}_lowest_dice": lowest}
    OUT.print(table)
    return figures


def shortcut(targets: str, results: Path, *options: str) -> tuple[float, np.ndarray]:
    """Seconds of one run with the card of `shortcuts`, and its label map."""
    import real_ct

    out = BUILD / "shortcut"
    command = [sys.executable, "-m", "medsegagent", "segment", targets, "-i", str(DATA / "ct_abdomen.nii.gz")]
    command += ["-o", str(out), "--library", str(BUILD / "cards"), "--models-dir", str(results), *options]
    seconds = run([*command, "--overwrite", "--device", "cpu", "--no-input"]).seconds
    return seconds, real_ct.load(out / "segmentation.nii.gz")


PARTS = (export, preprocess, matrix, small, large, classes118, three, shortcuts)


def main() -> int:
    if not (DATA / "ct_abdomen.nii.gz").exists():
        OUT.print(f"skipped: no data at {DATA}")
        return 0
    asked = sys.argv[1:] or [part.__name__ for part in PARTS]
    figures: dict[str, float] = {}
    for part in PARTS:
        if part.__name__ in asked:
            figures |= part()
    print(json.dumps({name: round(figure, 2) for name, figure in figures.items()}))
    return 1 if any(name.endswith("differing") and figure for name, figure in figures.items()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
