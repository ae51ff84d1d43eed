"""Requests that only the zoo's cards answer, judged by hand: card -> label names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medsegagent import match
from medsegagent.cards.library import Library

BENCH = Path(__file__).resolve().parents[2] / "model_selection_test_case.jsonl"
TS = "TotalSegmentator_"
THIRD_MOLARS = [
    "lower_left_third_molar_fdi38",
    "lower_right_third_molar_fdi48",
    "upper_left_third_molar_fdi28",
    "upper_right_third_molar_fdi18",
]
VENTRICLE_PARTS = ("frontal_horn", "occipital_horn", "body", "temporal_horn", "trigone")

REQUESTS: dict[str, dict[str, list[str]]] = {
    "left hippocampus in MR": {},
    "left hippocampus on FDG PET": {"MOOSE_FDG_brain": ["L-Hippocampus"]},
    "right amygdala in PET": {"MOOSE_FDG_brain": ["R-Amygdala"]},
    "anterior cingulate gyrus in PET": {
        "MOOSE_FDG_brain": [f"{side}-Cingulate gyrus gyrus cinguli anterior part" for side in "LR"]
    },
    "liver segment 4 on CT": {f"{TS}liver_segments": ["liver_segment_4"]},
    "Couinaud segments of the liver on MRI": {
        f"{TS}liver_segments_mr": [f"liver_segment_{number}" for number in range(1, 9)]
    },
    "upper left first molar in this CBCT": {f"{TS}teeth": ["upper_left_first_molar_fdi26"]},
    "tooth 36 in CT": {f"{TS}teeth": ["lower_left_first_molar_fdi36"]},
    "all wisdom teeth in a CT": {f"{TS}teeth": THIRD_MOLARS},
    "right maxillary sinus on CT": {f"{TS}teeth": ["right_maxillary_sinus"]},
    "frontal sinus on CT": {f"{TS}craniofacial_structures": ["sinus_frontal"]},
    "pleural effusion on chest CT": {f"{TS}pleural_pericard_effusion": ["pleural_effusion"]},
    "pericardial effusion in CT": {f"{TS}pleural_pericard_effusion": ["pericardial_effusion"]},
    "the hip implant in this CT": {f"{TS}hip_implant": ["hip_implant"]},
    "breast implant in CT": {"BOA_body_regions": ["breast_implant"], "CADS_559": ["Prosthetic breast implant"]},
    "lateral ventricles in CT": {
        f"{TS}ventricle_parts": [f"ventricle_{part}_{side}" for part in VENTRICLE_PARTS for side in ("left", "right")]
    },
    "left temporal horn on head CT": {f"{TS}ventricle_parts": ["ventricle_temporal_horn_left"]},
    "third ventricle": {f"{TS}ventricle_parts": ["third_ventricle"], "MOOSE_FDG_brain": ["Third ventricle"]},
    "left sternocleidomastoid muscle in CT": {f"{TS}headneck_muscles": ["sternocleidomastoid_left"]},
    "masseter muscles": {f"{TS}head_muscles": ["masseter_left", "masseter_right"]},
    "right superior oblique muscle in CT": {f"{TS}oculomotor_muscles": ["superior_oblique_muscle_right"]},
    "psoas major on the right in CT": {
        "CADS_556": ["Psoas major muscle R"],
        f"{TS}abdominal_muscles": ["psoas_major_right"],
    },
    "external oblique muscles in CT": {f"{TS}abdominal_muscles": ["external_oblique_left", "external_oblique_right"]},
    "skeletal muscle on MRI": {f"{TS}tissue_types_mr": ["skeletal_muscle"]},
    "intermuscular fat in CT": {f"{TS}tissue_4_types": ["intermuscular_fat"]},
    "liver lesions on MRI": {f"{TS}liver_lesions_mr": ["liver_lesions"]},
    "vertebra L3 in MR": {f"{TS}vertebrae_mr": ["vertebrae_L3"]},
    "aortic valve annulus in CT": {
        f"{TS}aorta_annulus": ["annulus_proper"],
        f"{TS}pulmonary_artery_landmarks": ["annulus"],
    },
    "true lumen of the aortic dissection": {f"{TS}aortic_dissection": ["aorta_true_lumen"]},
    "renal arteries on CT": {f"{TS}renal_arteries": ["renal_arteries"]},
    "the celiac trunk in CT": {f"{TS}renal_arteries": ["celiac_trunk"]},
    "thyroid cartilage on CT": {f"{TS}headneck_bones_vessels": ["thyroid_cartilage"]},
    "cricoid cartilage on CT": {f"{TS}headneck_bones_vessels": ["cricoid_cartilage"]},
    "seminal vesicles in CT": {"CADS_556": ["Seminal vesicle"]},
    "frontal lobe on CT": {f"{TS}brain_structures": ["frontal_lobe"]},
    "white matter on CT": {"CADS_557": ["White matter"]},
    "spinal canal on CT": {"CADS_556": ["Spinal canal"]},
    "both breasts in CT": {"CADS_556": ["Mammary gland L", "Mammary gland R"], f"{TS}breasts": ["breast"]},
    "mediastinum on CT": {
        "BOA_body_regions": ["mediastinum"],
        "CADS_559": ["Mediastinum"],
        f"{TS}trunk_cavities": ["mediastinum"],
    },
    "fibroglandular tissue in breast MRI": {"BAMF_breast_MR": ["fibroglandular tissue"]},
    "body outline on MR": {f"{TS}body_mr": ["body_extremities", "body_trunc"]},
}


@pytest.fixture(scope="module")
def everything() -> Library:
    return Library.load("all")


@pytest.mark.parametrize("instruction", REQUESTS)
def test_a_request_across_the_zoo(everything: Library, instruction: str) -> None:
    selection = match(instruction, everything)
    chosen = {
        card.card: sorted({name for target in card.targets for name in target.whole.plus}) for card in selection.cards
    }
    assert chosen == {card: sorted(labels) for card, labels in REQUESTS[instruction].items()}


def test_the_zoo_changes_nothing_for_the_benchmark_cards(everything: Library) -> None:
    benchmark = Library.load("benchmark")
    changed = []
    for line in BENCH.read_text(encoding="utf-8").splitlines():
        query = json.loads(line)["query"]
        alone = match(query, benchmark).labels
        among_all = {
            card: values for card, values in match(query, everything).labels.items() if card in benchmark.cards
        }
        if alone != among_all:
            changed.append(query)
    assert changed == []
