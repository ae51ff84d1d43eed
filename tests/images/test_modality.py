from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medsegagent.images.modality import about_guess, estimate_modality, looks_like_labels, not_hounsfield
from medsegagent.images.read import read_volume

SURE = 0.9


def body(inside: float, outside: float, noise: float = 10.0) -> NDArray[np.float32]:
    """A ball of tissue in its surroundings, with noise."""
    z, y, x = np.ogrid[-1:1:40j, -1:1:40j, -1:1:40j]
    ball = z * z + y * y + x * x < 0.6
    rng = np.random.default_rng(0)
    return (np.where(ball, inside, outside) + rng.normal(0, noise, ball.shape)).astype(np.float32)


def test_hounsfield_units_with_air_are_ct_for_sure() -> None:
    evidence = estimate_modality(np.rint(body(50, -1000)))
    assert evidence.family == "CT"
    assert evidence.confidence >= SURE


def test_padding_below_air_does_not_hide_a_ct() -> None:
    image = np.rint(body(50, -1000))
    image[:, :8] = -3024
    assert estimate_modality(image).family == "CT"


def test_a_ct_clipped_to_a_window_is_ct_but_not_for_sure() -> None:
    evidence = estimate_modality(np.clip(body(50, -1000), -200, 300))
    assert evidence.family == "CT"
    assert evidence.confidence < SURE


def test_non_negative_tissue_is_mr_but_never_for_sure() -> None:
    evidence = estimate_modality(np.abs(np.rint(body(400, 5))))
    assert evidence.family == "MR"
    assert evidence.confidence < SURE


def test_z_scored_mr_is_mr_with_little_confidence() -> None:
    image = body(400, 5)
    evidence = estimate_modality((image - image.mean()) / image.std())
    assert (evidence.family, evidence.confidence) == ("MR", 0.5)


def test_few_hot_spots_in_the_dark_are_pet() -> None:
    image = np.abs(body(0.8, 0.02, 0.05))
    image[18:21, 18:21, 18:21] = 30
    assert estimate_modality(gaussian_filter(image, 0.5)).family == "PET"


def test_a_constant_image_says_nothing() -> None:
    assert estimate_modality(np.zeros((4, 4, 4), np.float32)).family is None


@pytest.mark.parametrize(("name", "family"), [("ct_abdomen", "CT"), ("ct_slab", "CT"), ("mr_slab", "MR")])
def test_real_scans_are_recognised(shared: Callable[[str], Path], name: str, family: str) -> None:
    assert read_volume(shared(f"{name}.nii.gz")).evidence.family == family


class TestWhatIsSaid:
    def test_a_guess_is_said_unless_the_request_names_the_modality(self) -> None:
        image = np.rint(body(50, -1000))
        evidence = estimate_modality(image)
        (said,) = about_guess(evidence, image, None)
        assert "taken for CT by its intensities" in said
        assert about_guess(evidence, image, "CT") == ()

    @pytest.mark.parametrize(
        ("image", "words"),
        [
            (np.rint(body(50, -1000)) + 1024, "subtract 1024"),
            (np.clip(np.rint(body(50, -1000)) + 1024, 0, 4095), "subtract 1024"),
            ((np.clip(body(50, -1000), -1024, 3071) + 1024) / 4095, "at most 1"),
            (np.rint((np.clip(body(50, -1000), -1024, 3071) + 1024) / 4095 * 255), "8 bits"),
            (np.where(body(50, -1000) < -500, -2000, body(50, -1000) + 1024), "subtract 1024"),
            (body(50, -1000) - 1024, "soft tissue"),
            (np.clip(body(50, -1000), -150, 250), "cropped or windowed"),
        ],
    )
    def test_a_ct_that_is_not_in_hounsfield_units_says_what_to_do(self, image: NDArray[np.float32], words: str) -> None:
        (said,) = not_hounsfield(image.astype(np.float32))
        assert words in said

    @pytest.mark.parametrize("padding", [-1000, -2048, -3024, -32768])
    def test_a_ct_in_hounsfield_units_is_no_reason(self, padding: int) -> None:
        image = np.rint(body(50, -1000))
        image[:, :6] = padding
        assert not_hounsfield(image) == ()

    @pytest.mark.parametrize("values", [(1,), (1, 2), tuple(range(1, 118))])
    def test_a_label_map_given_as_an_image_is_said(self, values: tuple[int, ...]) -> None:
        labels = np.zeros((4 * len(values) + 4, 20, 20), np.float32)
        for number, value in enumerate(values):
            labels[4 * number : 4 * number + 4, 3:17, 4:15] = value
        assert "mask or label map" in looks_like_labels(labels)[0]

    def test_an_image_is_no_label_map(self) -> None:
        for image in (np.rint(body(50, -1000)), np.abs(np.rint(body(400, 5))), np.rint(np.abs(body(90, 5, 2)))):
            assert looks_like_labels(image) == ()


@pytest.mark.parametrize("name", ["ct_abdomen", "ct_slab", "mr_slab"])
def test_nothing_is_said_about_real_scans_but_that_their_modality_was_guessed(
    shared: Callable[[str], Path], name: str
) -> None:
    family = name[:2].upper()
    assert read_volume(shared(f"{name}.nii.gz"), family=family).warnings == ()
    assert len(read_volume(shared(f"{name}.nii.gz")).warnings) == 1
