"""The pruned export against nnU-Net's own function: not one voxel may differ, on logits made to be awkward."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tiny_models import RESAMPLING

from medsegagent.engines.nnunet.export import _pruned_axes, export_labels

Case = tuple[torch.Tensor, Any, dict[str, Any]]


def case(
    logits: np.ndarray,
    out: tuple[int, int, int],
    *,
    spacing: tuple[float, ...] = (3.0, 3.0, 3.0),
    scan: tuple[float, float, float] = (2.0, 2.0, 2.0),
    regions: list[int] | None = None,
    transpose: tuple[int, int, int] = (0, 1, 2),
    margin: tuple[int, int, int] = (0, 0, 0),
    **options: Any,
) -> Case:
    """Logits as preprocessing and the network would leave them; `out` is the crop's shape in the plans' axis order."""
    backward = [int(axis) for axis in np.argsort(transpose)]
    configuration = {
        "spacing": list(spacing),
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": RESAMPLING | options,
        "architecture": {},
    }
    plans = PlansManager(
        {
            "transpose_forward": list(transpose),
            "transpose_backward": backward,
            "label_manager": "LabelManager",
            "configurations": {"c": configuration},
        }
    )
    count = len(logits)
    if regions is None:
        dataset: dict[str, Any] = {"labels": {"background": 0} | {f"l{i}": i for i in range(1, count)}}
    else:
        names = {f"r{i}": sorted(set(regions[i:]) | {regions[-1], 999}) for i in range(count)}
        dataset = {"labels": {"background": 0} | names, "regions_class_order": regions}
    trained = SimpleNamespace(
        plans=plans, configuration=plans.get_configuration("c"), label_manager=plans.get_label_manager(dataset)
    )
    properties = {
        "spacing": [scan[axis] for axis in backward],
        "shape_before_cropping": tuple(size + 2 * m for size, m in zip(out, margin, strict=True)),
        "shape_after_cropping_and_before_resampling": tuple(out),
        "bbox_used_for_cropping": [[m, m + size] for size, m in zip(out, margin, strict=True)],
    }
    return torch.from_numpy(np.ascontiguousarray(logits.astype(np.float16))), trained, properties


def nnunets(logits: torch.Tensor, trained: Any, properties: dict[str, Any]) -> np.ndarray:
    given = (trained.plans, trained.configuration, trained.label_manager, properties)
    return convert_predicted_logits_to_segmentation_with_correct_shape(logits.clone(), *given)


def assert_same(made: Case) -> None:
    assert _pruned_axes(*made) is not None, "this case is about the pruned export"
    own, reference = export_labels(*made), nnunets(*made)
    assert (own.dtype, own.shape) == (reference.dtype, reference.shape)
    assert int((own != reference).sum()) == 0


def noise(classes: int, shape: tuple[int, ...], seed: int = 0, scale: float = 4.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, (classes, *shape))


def smooth(classes: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Large areas with one winner, as trained networks give."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)[None]
    centres = rng.uniform(0, max(shape), (classes, 1, 1, 1, 3))
    return 12 - np.linalg.norm(at - centres, axis=-1) + rng.normal(0, 0.2, (classes, *shape))


MATRIX = {
    "isotropic": case(noise(5, (9, 8, 7)), (14, 13, 10)),
    "smooth": case(smooth(6, (12, 11, 10)), (25, 31, 17)),
    "downsampling": case(noise(4, (13, 12, 11)), (6, 7, 5), scan=(6.0, 5.0, 6.0)),
    "up and down": case(smooth(4, (9, 12, 7)), (17, 5, 7)),
    "same shape": case(noise(4, (6, 5, 4)), (6, 5, 4), scan=(3.0, 3.0, 3.0)),
    "one axis the same": case(noise(4, (6, 5, 4)), (6, 9, 11)),
    "one voxel thick": case(noise(3, (1, 6, 5)), (1, 9, 8)),
    "to one voxel": case(noise(3, (4, 6, 5)), (1, 9, 8)),
    "thick slices in the scan": case(noise(5, (9, 8, 7)), (4, 13, 10), scan=(9.0, 2.0, 2.0)),
    "thick slices in the plans": case(noise(5, (4, 8, 7)), (9, 13, 10), spacing=(9.0, 2.0, 2.0)),
    "thick along the last axis": case(noise(5, (9, 8, 7)), (13, 10, 4), scan=(2.0, 2.0, 9.0)),
    "thick along the middle axis": case(smooth(5, (9, 8, 7)), (13, 11, 9), spacing=(1.0, 9.0, 1.0)),
    "thick, its axis the same": case(noise(5, (4, 8, 7)), (4, 13, 10), scan=(9.0, 2.0, 2.0), order_z=1),
    "2D": case(noise(4, (5, 8, 7)), (5, 13, 10), spacing=(3.0, 3.0), scan=(5.0, 2.0, 2.0)),
    "2D of thick slices": case(noise(4, (5, 8, 7)), (5, 13, 10), spacing=(1.0, 1.0), scan=(8.0, 2.0, 2.0)),
    "forced separate": case(noise(4, (5, 8, 7)), (9, 13, 10), spacing=(4.0, 3.0, 3.0), force_separate_z=True),
    "forced together": case(noise(4, (5, 8, 7)), (9, 13, 10), spacing=(9.0, 2.0, 2.0), force_separate_z=False),
    "transposed": case(smooth(5, (9, 8, 7)), (14, 13, 10), transpose=(2, 0, 1), scan=(1.9, 2.0, 2.1)),
    "cropped": case(noise(5, (9, 8, 7)), (14, 13, 10), margin=(3, 1, 2), transpose=(1, 2, 0)),
    "one label": case(noise(2, (9, 8, 7)), (14, 13, 10)),
    "118 labels": case(smooth(119, (9, 8, 7)), (14, 13, 10)),
    "300 labels": case(noise(301, (5, 6, 4)), (9, 11, 7)),
    "regions": case(noise(3, (9, 8, 7)), (14, 13, 10), regions=[1, 2, 3]),
    "regions out of order": case(smooth(3, (9, 8, 7)) - 8, (14, 13, 10), regions=[3, 1, 2]),
    "regions, thick, cropped": case(
        noise(2, (4, 8, 7)), (9, 13, 10), regions=[2, 1], spacing=(9.0, 2.0, 2.0), margin=(1, 0, 4), transpose=(2, 1, 0)
    ),
    "regions, same shape": case(noise(2, (5, 4, 3), scale=1e-6), (5, 4, 3), regions=[1, 2], scan=(3.0, 3.0, 3.0)),
    "ties everywhere": case(np.random.default_rng(0).integers(-1, 2, (4, 7, 6, 5)), (13, 11, 9)),
    "signed zeros": case(np.where(noise(3, (6, 6, 6)) > 0, 0.0, -0.0), (11, 10, 9)),
    "subnormal logits": case(noise(4, (7, 6, 5), scale=3e-7), (12, 11, 9)),
    "subnormal regions": case(noise(3, (7, 6, 5), scale=1e-7), (12, 11, 9), regions=[1, 2, 3]),
    "large logits": case(np.clip(noise(4, (7, 6, 5), scale=4e4), -65504, 65504), (12, 11, 9)),
}


@pytest.mark.parametrize("name", MATRIX)
def test_labels_are_nnunets_own(name: str) -> None:
    assert_same(MATRIX[name])


SIZES = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_labels_are_nnunets_own_on_any_small_case(data: st.DataObject) -> None:
    draw = data.draw
    classes, shape, out = draw(st.integers(2, 7)), draw(SIZES), draw(SIZES)
    seed, scale = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([1e-7, 1e-3, 1.0, 100.0]))
    logits = noise(classes, shape, seed, scale)
    if draw(st.booleans()):
        logits = np.round(logits / scale * 2) * scale  # many exact ties
    thick = draw(st.sampled_from([(2.0, 2.0, 2.0), (9.0, 2.0, 2.0), (2.0, 9.0, 2.0), (2.0, 2.0, 9.0)]))
    regions = draw(st.permutations(range(1, classes + 1))) if draw(st.booleans()) else None
    made = case(
        logits,
        out,
        spacing=draw(st.sampled_from([(3.0, 3.0, 3.0), thick])),
        scan=thick,
        regions=regions,
        transpose=tuple(draw(st.permutations((0, 1, 2)))),
        margin=draw(st.tuples(*[st.integers(0, 2)] * 3)),
    )
    assert_same(made)


def test_wanted_labels_are_complete_and_right_where_others_may_be_missing() -> None:
    made = case(smooth(20, (12, 11, 10)), (25, 31, 17))
    every, some = export_labels(*made), export_labels(*made, wanted=(3, 7))
    assert np.isin((3, 7), every).all()
    assert np.array_equal(np.where(np.isin(every, (3, 7)), every, 0), np.where(np.isin(some, (3, 7)), some, 0))
    assert np.isin(some, (0, *np.unique(every))).all()
    assert (some == 0).sum() > (every == 0).sum()


@pytest.mark.parametrize(
    "options", [{"order": 3}, {"order": 0}, {"order_z": 1, "spacing": (9.0, 2.0, 2.0)}, {"is_seg": True}]
)
def test_other_resampling_goes_through_nnunets_own_code(options: dict[str, Any]) -> None:
    made = case(smooth(3, (5, 8, 7)), (9, 13, 10), **options)
    assert _pruned_axes(*made) is None
    assert np.array_equal(export_labels(*made), nnunets(*made))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_does_not_matter(threads: int) -> None:
    made = MATRIX["smooth"]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_same(made)
    finally:
        torch.set_num_threads(before)
