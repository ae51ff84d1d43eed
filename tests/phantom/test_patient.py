"""The synthetic patient: repeatable, anatomically the right way round in any file orientation, readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsegagent.errors import UsageError
from medsegagent.images.geometry import orientation as orientation_of
from medsegagent.images.modality import estimate_modality
from medsegagent.images.read import read_volume
from medsegagent.phantom.patient import ORIENTATIONS, STRUCTURES, Patient, demo_patient, make_patient, write_patient
from medsegagent.phantom.train import TRAINING_SEEDS


def centre(patient: Patient, structure: str) -> np.ndarray:
    """Mean position in the patient: mm towards left, back and head."""
    return patient.grid.points(np.argwhere(patient.mask(structure))[:, ::-1]).mean(axis=0)


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32), orientation=st.sampled_from([None, *ORIENTATIONS]))
def test_organs_lie_where_anatomy_says_whatever_the_file_order(seed: int, orientation: str | None) -> None:
    patient = make_patient(seed, orientation=orientation)
    left, back, head = np.array([centre(patient, name) for name in STRUCTURES]).T
    x, y, z = (dict(zip(STRUCTURES, axis, strict=True)) for axis in (left, back, head))
    assert x["liver"] < x["vertebrae"] < x["spleen"]
    assert x["kidney_right"] < x["vertebrae"] < x["kidney_left"]
    assert x["lung_right"] < x["vertebrae"] < x["lung_left"]
    assert x["stomach"] > x["liver"]
    assert y["vertebrae"] > y["aorta"] > y["bladder"]
    assert z["lung_left"] > z["spleen"] > z["kidney_left"] > z["bladder"]


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "IAL"])
def test_the_file_has_the_orientation_asked_for(orientation: str) -> None:
    assert orientation_of(make_patient(3, orientation=orientation).grid) == orientation


def test_there_are_48_orientations_and_no_other() -> None:
    assert len(set(ORIENTATIONS)) == 48
    with pytest.raises(UsageError, match="RRS"):
        make_patient(0, orientation="RRS")


def test_one_seed_gives_one_patient_and_another_seed_another() -> None:
    first, again, other = make_patient(7, "MR"), make_patient(7, "MR"), make_patient(8, "MR")
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert first.grid == again.grid
    assert first.grid != other.grid


def test_ct_and_mr_of_a_seed_show_the_same_anatomy() -> None:
    ct, mr = make_patient(11, "CT"), make_patient(11, "MR")
    assert ct.grid == mr.grid
    assert np.array_equal(ct.labels, mr.labels)


@pytest.mark.parametrize("contrast", ["CT", "MR"])
@pytest.mark.parametrize("seed", range(3))
def test_an_image_looks_like_its_modality(seed: int, contrast: str) -> None:
    assert estimate_modality(make_patient(seed, contrast).image).family == contrast


def test_a_ct_is_in_hounsfield_units() -> None:
    patient = make_patient(5)
    assert patient.image[patient.mask("lung_left", "lung_right")].mean() < -700
    assert 80 < patient.image[patient.mask("liver")].mean() < 140
    assert patient.image[patient.mask("vertebrae")].mean() > 150


@pytest.mark.parametrize("seed", range(8))
def test_every_structure_has_a_sensible_volume(seed: int) -> None:
    patient = make_patient(seed)
    smallest = {"liver": 800, "lung_left": 600, "lung_right": 600, "vertebrae": 200, "liver_lesion": 5}
    for name in STRUCTURES:
        assert patient.mask(name).sum() * patient.grid.voxel_ml > smallest.get(name, 40), name


def test_the_liver_is_labelled_without_its_lesion() -> None:
    patient = make_patient(2)
    assert not (patient.mask("liver") & patient.mask("liver_lesion")).any()


def test_a_written_patient_reads_back_in_place(tmp_path: Path) -> None:
    patient = make_patient(9)
    write_patient(patient, tmp_path / "ct.nii.gz")
    volume = read_volume(tmp_path / "ct.nii.gz")
    assert volume.grid.size == patient.grid.size
    corners = np.array([[0, 0, 0], np.array(patient.grid.size) - 1])
    assert np.allclose(volume.grid.points(corners), patient.grid.points(corners), atol=0.01)
    assert np.abs(volume.array - patient.image).max() <= 0.5


def test_demo_patients_were_not_trained_on() -> None:
    assert demo_patient(0).seed not in TRAINING_SEEDS
    assert demo_patient(3).seed != demo_patient(4).seed
