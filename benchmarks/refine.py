"""How many clicks a mask takes, per promptable model, from nothing and from the fused mask; seconds and memory a turn.

    python benchmarks/refine.py                      # the phantom
    python benchmarks/refine.py --ct FOLDER          # and ct_abdomen.nii.gz with ct_abdomen_reference_3mm.nii.gz in it
    python benchmarks/refine.py --memory             # and a turn on 512 x 512 x 250 voxels

The clicks are the oracle's: the middle of the worst error. With SAM from random weights only the plumbing can be shown,
so it is not among these.
"""

from __future__ import annotations

import argparse
import resource
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medsegagent.images.boxed import Boxed
from medsegagent.images.read import read_volume
from medsegagent.images.volume import Grid
from medsegagent.phantom import CARDS, MODELS, make_patient, write_patient
from medsegagent.prompting.adapters.walker import Walker
from medsegagent.prompting.catalogue import PHANTOM, Wanted, open_model
from medsegagent.prompting.episode import Episode
from medsegagent.prompting.policies.oracle import Oracle
from medsegagent.prompting.prompts import Packed, Point, Seed
from medsegagent.prompting.refine import refine
from medsegagent.prompting.session import PromptSession

ORGANS = {
    "liver": ("liver", "liver_lesion"),
    "spleen": ("spleen",),
    "kidney_left": ("kidney_left",),
    "kidney_right": ("kidney_right",),
    "stomach": ("stomach",),
    "aorta": ("aorta",),
    "bladder": ("bladder",),
    "lung_left": ("lung_left",),
    "lung_right": ("lung_right",),
}
CLICKS = 8
LEVELS = (0.8, 0.9)


def clicks_to(episode: Episode, level: float) -> int | None:
    """Clicks until IoU reaches a level, 0 if the seed has it already; None if it never did."""
    for number, turn in enumerate(episode.turns):
        if turn.iou is not None and turn.iou >= level:
            return number + (0 if isinstance(episode.turns[0].prompt, Seed) else 1)
    return None


def row(name: str, episodes: Sequence[Episode]) -> str:
    prompted = [episode.prompted for episode in episodes]
    curve = [
        np.mean([turns[min(at, len(turns) - 1)].iou if turns else 1.0 for turns in prompted]) for at in range(CLICKS)
    ]
    counts = [[clicks_to(episode, level) for episode in episodes] for level in LEVELS]
    reached = "  ".join(
        f"{np.mean([CLICKS + 1 if n is None else n for n in found]):4.1f} ({sum(n is not None for n in found)})"
        for found in counts
    )
    seconds = [turn.seconds for turns in prompted for turn in turns]
    return f"{name:42s} {' '.join(f'{iou:.2f}' for iou in curve)}  {reached}  {np.mean(seconds) if seconds else 0:.2f}"


def episodes(
    wanted: Wanted, image: np.ndarray, grid: Grid, truths: dict[str, Boxed[np.bool_]], seeds: dict[str, Boxed[np.bool_]]
) -> list[Episode]:
    found = []
    for name, truth in truths.items():
        if truth.any() and (not seeds or name in seeds):
            model, seed = open_model(wanted), seeds.get(name)
            policy = Oracle(truth, enough=max(LEVELS))
            found.append(refine(model, policy, image, grid, target=name, seed=seed, budget=CLICKS, truth=truth))
    return found


def head(title: str) -> None:
    print(f"\n{title}\n{'':42s} IoU after 1 to {CLICKS} clicks" + " " * 14 + "to 0.8 (n)  to 0.9 (n)  s/turn")


def phantom(patients: Sequence[int]) -> None:
    import tempfile

    from medsegagent.road.segmenter import Segmenter

    adapters = {
        "walker": Wanted("walker"),
        "nninteractive (phantom's weights)": Wanted("nninteractive", PHANTOM, device="cpu"),
    }
    table: dict[str, list[Episode]] = {}
    for number in patients:
        patient = make_patient(number, "CT")
        truths = {name: Boxed.of(patient.mask(*names)) for name, names in ORGANS.items()}
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "ct.nii.gz"
            write_patient(patient, image)
            said = "liver, spleen, both kidneys, stomach, aorta, bladder and both lungs"
            run = Segmenter(CARDS, models_dir=MODELS).segment(said, image)
        assert run.segmentation is not None
        names = {"urinary_bladder": "bladder"}
        fused = {names.get(item.id, item.id): item.where for item in run.segmentation.structures}
        for name, wanted in adapters.items():
            for how, seeds in (("from nothing", {}), ("from the fused mask", fused)):
                table.setdefault(f"{name}, {how}", []).extend(
                    episodes(wanted, patient.image, patient.grid, truths, seeds)
                )
    head(f"phantom, {len(patients)} patients, {len(ORGANS)} organs each; unreached counts as {CLICKS + 1}")
    for name, done in table.items():
        print(row(name, done))


def real(folder: Path) -> None:
    volume = read_volume(folder / "ct_abdomen.nii.gz")
    reference = sitk.ReadImage(str(folder / "ct_abdomen_reference_3mm.nii.gz"))
    image = sitk.ReadImage(str(folder / "ct_abdomen.nii.gz"))
    labels = sitk.GetArrayFromImage(sitk.Resample(reference, image, sitk.Transform(), sitk.sitkNearestNeighbor))
    values = [int(value) for value in np.unique(labels) if value]
    sizes = {value: int((labels == value).sum()) for value in values}
    largest = sorted(sizes, key=lambda value: -sizes[value])[:8]
    truths = {f"label {value}": Boxed.of(labels == value) for value in largest}
    head(f"real CT {volume.array.shape}, the {len(truths)} largest labels of its reference")
    for name, wanted in {
        "walker": Wanted("walker"),
        "nninteractive (phantom's weights)": Wanted("nninteractive", PHANTOM, device="cpu"),
    }.items():
        print(row(f"{name}, from nothing", episodes(wanted, volume.array, volume.grid, truths, {})))
        half = {key: _halved(truth) for key, truth in truths.items()}
        print(row(f"{name}, from half the mask", episodes(wanted, volume.array, volume.grid, truths, half)))


def _halved(mask: Boxed[np.bool_]) -> Boxed[np.bool_]:
    whole = mask.dense()
    whole[(mask.box[0].start + mask.box[0].stop) // 2 :] = False
    return Boxed.of(whole)


def memory() -> None:
    """What a turn takes beyond the volume: it must not copy it."""
    shape = (250, 512, 512)
    rng = np.random.default_rng(0)
    volume = rng.normal(0, 10, shape).astype(np.float32)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    organ = ((z - 120) / 40) ** 2 + ((y - 250) / 60) ** 2 + ((x - 200) / 60) ** 2 < 1
    volume[organ] += 120
    grid = Grid(shape[::-1], (0.8, 0.8, 2.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    seed = organ.copy()
    seed[120:] = False
    print(f"\none volume of {' x '.join(map(str, shape[::-1]))}: {volume.nbytes >> 20} MiB")
    for name, prompts in {
        "walker, click from nothing": [Point(voxel=(200, 250, 120))],
        "walker, correction of a mask": [Seed(voxels=Packed.of(Boxed.of(seed))), Point(voxel=(200, 250, 140))],
    }.items():
        with PromptSession(Walker()) as session:
            session.open(volume, grid)
            for prompt in prompts[:-1]:
                session.apply(prompt)
            tracemalloc.start()
            update = session.apply(prompts[-1])
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        print(f"{name:32s} peak beyond it {peak / 2**20:7.0f} MiB, {update.seconds:.1f} s")
    print(f"largest resident size {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=2)
    parser.add_argument("--ct", type=Path)
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args()
    phantom(range(4242, 4242 + given.patients))
    if given.ct:
        real(given.ct)
    if given.memory:
        memory()
