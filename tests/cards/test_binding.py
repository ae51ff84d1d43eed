from __future__ import annotations

import json
from pathlib import Path

import pytest

from medsegagent.cards import DatasetCard, Library
from medsegagent.cards.binding import bind, bind_label
from medsegagent.cards.channels import Accepted, channel_accepts
from medsegagent.vocabulary import Sided, load

VOCABULARY = load()


class TestBindLabel:
    @pytest.mark.parametrize(
        ("label", "concept", "side"),
        [
            ("kidney_left", "kidney", "left"),
            ("left kidney", "kidney", "left"),
            ("Kidney_L", "kidney", "left"),
            ("LEFT_RIB_1", "rib_1", "left"),
            ("Rib-1 L", "rib_1", "left"),
            ("vertebrae_L5", "vertebra_l5", ""),
            ("Vertebra T12", "vertebra_t12", ""),
            ("C3", "vertebra_c3", ""),
            ("BrainStem", "brainstem", ""),
            ("TMjoint_R", "temporomandibular_joint", "right"),
            ("Larynx_Supraglot", "supraglottis", ""),
            ("heart_left_ventricle_blood_cavity", "heart_ventricle", "left"),
            ("heart_left_ventricular_myocardium", "myocardium", ""),
            ("lung_middle_lobe_right", "lung_middle_lobe", ""),
            ("postcava", "inferior_vena_cava", ""),
            ("kidney_cyst_right", "cyst.kidney", "right"),
            ("liver_tumour", "tumor.liver", ""),
        ],
    )
    def test_a_name_in_any_dress_means_its_concept(self, label: str, concept: str, side: str) -> None:
        assert bind_label(label, "", VOCABULARY).concepts == (Sided(concept, side),)

    def test_a_composite_label_means_each_of_its_structures(self) -> None:
        assert {c.id for c in bind_label("prostate_or_uterus", "", VOCABULARY).concepts} == {"prostate", "uterus"}

    def test_an_organ_with_lesions_is_told_from_two_organs(self) -> None:
        binding = bind_label("kidney and masses", "", VOCABULARY)
        assert (binding.concepts, binding.lesions) == ((Sided("kidney"),), ("mass.kidney",))

    def test_an_unknown_name_binds_to_nothing(self) -> None:
        assert bind_label("flurbgart_7", "", VOCABULARY).concepts == ()

    @pytest.mark.parametrize(
        ("label", "context", "concept"),
        [
            ("GTVp", "nasopharyngeal carcinoma, planning CT", "tumor.nasopharynx"),
            ("GTVnd", "oropharyngeal (head and neck) cancer", "nodal_metastasis.oropharynx"),
            ("tumor", "whole body PET/CT", "tumor"),
            ("whole_tumor", "brain. MR of adult glioma", "glioma"),
            ("tumor", "liver CT", "tumor.liver"),
        ],
    )
    def test_a_lesion_without_a_site_is_where_the_card_says(self, label: str, context: str, concept: str) -> None:
        assert bind_label(label, context, VOCABULARY).concepts == (Sided(concept),)

    def test_the_cards_own_binding_overrides_the_name(self) -> None:
        card = DatasetCard.model_validate(
            {"name": "A", "channel_names": {"0": "CT"}, "labels": {"L7": 1}, "bindings": {"L7": "left kidney"}}
        )
        assert bind(card, VOCABULARY)[0].concepts == (Sided("kidney", "left"),)
        assert bind(card, VOCABULARY)[0].label == "L7"


class TestChannels:
    @pytest.mark.parametrize(
        ("name", "accepted"),
        [
            ("CT", {("CT", "")}),
            ("MR or CT", {("CT", ""), ("MR", "")}),
            ("non_contrast_CT", {("CT", "non-contrast")}),
            ("Non-Contrast head CT", {("CT", "non-contrast")}),
            ("MR T2 FLAIR", {("MR", "FLAIR")}),
            ("MR T1 weighted imaging with gadolinium", {("MR", "T1ce")}),
            ("ceT1 and T2", {("MR", "T1ce"), ("MR", "T2")}),
            ("cineMRI", {("MR", "cine")}),
            ("US", {("US", "")}),
            ("channel 7", set()),
        ],
    )
    def test_free_text_says_what_a_channel_takes(self, name: str, accepted: set[tuple[str, str]]) -> None:
        assert channel_accepts(name, VOCABULARY) == {Accepted(*item) for item in accepted}


class TestOlderCards:
    def write(self, folder: Path, **card: object) -> Library:
        (folder / "Old.json").write_text(json.dumps(card), encoding="utf-8")
        return Library.load(folder)

    def test_an_older_card_loads_without_what_this_schema_does_not_know(self, tmp_path: Path) -> None:
        library = self.write(
            tmp_path, name="Old", input_modalities={"0": "MR or CT"}, labels={"GTVp": 1, "all": [1, 2]},
            models={"nnunet": [{"path": "somewhere"}]}, numTraining="many", tasks=[1], description=None,
        )  # fmt: skip
        assert library.problems == ()
        assert library.cards["Old"].labels == {"GTVp": (1,), "all": (1, 2)}

    def test_a_dataset_json_keeps_its_extras_to_itself(self, tmp_path: Path) -> None:
        library = self.write(
            tmp_path, channel_names={"0": "CT"}, labels={"background": 0, "liver": 1, "ignore": 2}, numTraining=3,
            file_ending=".nii.gz", overwrite_image_reader_writer="SimpleITKIO", release="1.0", reference="x",
        )  # fmt: skip
        assert library.cards["Old"].labels == {"liver": (1,)}
