from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from tiny_models import edit_json, make_volume, write_model

from medsegagent.engines.nnunet.network import TrainedNetwork, load_network
from medsegagent.engines.nnunet.preprocess import preprocess
from medsegagent.errors import ImageError
from medsegagent.models.installed import NnunetFolder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def network(root: Path, name: str, edits: dict[str, Any] | None = None, **options: Any) -> TrainedNetwork:
    folder = root / f"Dataset900_{name}" / f"nnUNetTrainer__nnUNetPlans__{options.get('configuration', '3d_fullres')}"
    if not folder.exists():
        write_model(root, name=f"Dataset900_{name}", **options)
        for key, value in (edits or {}).items():
            edit_json(folder / "plans.json", "configurations", folder.name.split("__")[2], key, value=value)
    return load_network(NnunetFolder(folder=folder, folds=(0,), checkpoint="checkpoint_final.pth", labels={}))


def assert_nnunets_own(trained: TrainedNetwork, images: np.ndarray, spacing: list[float]) -> None:
    given = (trained.plans, trained.configuration, trained.dataset)
    reference, _, said = DefaultPreprocessor(verbose=False).run_case_npy(images, None, {"spacing": spacing}, *given)
    own, properties = preprocess(images.copy(), spacing, trained)
    assert properties == said
    assert own.dtype == np.float32
    assert np.array_equal(own, reference)


ZSCORE = {"normalization_schemes": ["ZScoreNormalization"] * 2, "use_mask_for_norm": [True, False]}
LINEAR = {"resampling_fn_data_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}}
CASES: dict[str, tuple[dict[str, Any] | None, dict[str, Any], tuple[float, float, float]]] = {
    "downsampled": (None, {"spacing": (3.0, 3.1, 2.9)}, (1.5, 1.4, 1.3)),
    "upsampled": (None, {"spacing": (1.0, 1.0, 1.0)}, (1.7, 1.4, 1.3)),
    "same": (None, {"spacing": (2.0, 2.0, 2.0)}, (2.0, 2.0, 2.0)),
    "one axis the same": (None, {"spacing": (2.0, 2.0, 3.0)}, (2.0, 2.5, 2.0)),
    "thick slices": (None, {"spacing": (2.0, 1.0, 1.2)}, (8.0, 1.5, 1.5)),
    "thick, last axis, transposed": (None, {"spacing": (8.0, 1.0, 1.2), "transpose": (2, 0, 1)}, (1.5, 1.7, 2.0)),
    "thick, in plane the same": (None, {"spacing": (2.0, 1.5, 1.5)}, (8.0, 1.5, 1.5)),
    "2D": (None, {"configuration": "2d", "spacing": (2.0, 2.1), "patch": (16, 16)}, (5.0, 1.5, 1.5)),
    "z-score with mask": (ZSCORE, {"channels": ("T1", "T2"), "spacing": (2.0, 2.0, 2.0)}, (1.5, 1.5, 1.5)),
    "another order": (LINEAR, {"spacing": (3.0, 3.0, 3.0)}, (2.0, 2.0, 2.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_network_sees_what_nnunet_would_show_it(root: Path, name: str) -> None:
    edits, options, spacing = CASES[name]
    trained = network(root, name.replace(" ", "_").replace(",", ""), edits, **options)
    images = np.stack([make_volume(seed=seed).array for seed in range(len(options.get("channels", "1")))])
    images[:, 10:14, 10:14, 10:14] = 0  # a hole inside the patient
    assert_nnunets_own(trained, images, list(spacing))


def test_the_mean_of_two_voxels_is_rounded_as_nnunet_rounds_it(root: Path) -> None:
    for seed in range(20):
        images = make_volume((16, 16, 16), seed=seed).array[None, 3:5, :2, :2]
        assert_nnunets_own(network(root, "any", spacing=(2.0, 2.0, 2.0)), np.ascontiguousarray(images), [1.0, 2.0, 2.0])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_small_image_is_preprocessed_as_nnunet_does(root: Path, data: st.DataObject) -> None:
    trained = network(root, "any", spacing=(2.0, 2.0, 2.0))
    size = data.draw(st.tuples(*[st.integers(2, 12)] * 3))
    mm = st.floats(0.5, 9.0)
    spacing = [data.draw(mm), data.draw(mm), data.draw(mm)]
    seed = data.draw(st.integers(0, 999))
    images = make_volume((16, 16, 16), seed=seed).array[None, 3 : 3 + size[0], : size[1], : size[2]]
    if images.any() and all(mm * count >= 1.01 for mm, count in zip(spacing, images.shape[1:], strict=True)):
        assert_nnunets_own(trained, np.ascontiguousarray(images), spacing)


def test_an_image_thinner_than_the_networks_voxels_is_refused(root: Path) -> None:
    with pytest.raises(ImageError, match="thinner"):
        preprocess(np.ones((1, 2, 9, 9), np.float32), [0.4, 2.0, 2.0], network(root, "any", spacing=(2.0, 2.0, 2.0)))
