"""What people put right on the way, leave out of a group, or say once for two things."""

from __future__ import annotations

import pytest

from medsegagent import Library, match
from medsegagent.language import parse
from medsegagent.vocabulary import load

VOCABULARY = load()
LIBRARY = Library.load("benchmark")


def names(instruction: str) -> list[str]:
    return [target.name for target in parse(instruction, VOCABULARY).targets]


def excluded(instruction: str) -> list[str]:
    return [target.name for target in parse(instruction, VOCABULARY).exclusions]


class TestTakenBack:
    @pytest.mark.parametrize(
        ("instruction", "expected"),
        [
            ("left kidny... no sorry, the right one. CT", ["right kidney"]),
            ("right lung. wait no, left lung please. CT", ["left lung"]),
            ("spleen, I mean the liver, on MRI", ["liver"]),
            ("spleen and pancreas, I mean liver", ["spleen", "liver"]),
            ("Pancreas - scratch that - stomach, CT", ["stomach"]),
            ("die linke Niere, nein, die rechte, CT", ["right kidney"]),
            ("L4, I mean L5, CT", ["L5 vertebra"]),
            ("the right femur, oops, both femurs", ["femur"]),
            ("the kidney, sorry, the left one", ["left kidney"]),
        ],
    )
    def test_the_slip_is_gone(self, instruction: str, expected: list[str]) -> None:
        assert names(instruction) == expected

    def test_a_modality_is_taken_back_too(self) -> None:
        assert parse("CT, no wait, it is an MRI: gallbladder", VOCABULARY).modality.families == ("MR",)

    @pytest.mark.parametrize(
        "instruction", ["sorry for the rush, liver and spleen on CT", "liver and spleen on CT, sorry it is late"]
    )
    def test_being_sorry_takes_nothing_back(self, instruction: str) -> None:
        assert names(instruction) == ["liver", "spleen"]


class TestLeftOut:
    @pytest.mark.parametrize(
        ("instruction", "expected"),
        [
            ("All lumbar vertebrae but L3, CT", ["L3 vertebra"]),
            ("All lumbar vertebrae but the third one, CT", ["L3 vertebra"]),
            ("Every pulmonary lobe but the right middle one, CT", ["right middle lobe"]),
            ("lung lobes on the right without the middle one, CT", ["right middle lobe"]),
            ("All gluteal muscles save for the minimus, MRI", ["gluteus minimus"]),
            ("Heart ventricles, cine, but not the left one", ["left heart ventricle"]),
            ("all ribs but only on the left, CT", []),
            ("the spleen but not the liver", ["liver"]),
        ],
    )
    def test_it_is_named_by_number_side_or_adjective(self, instruction: str, expected: list[str]) -> None:
        assert excluded(instruction) == expected


class TestSaidOnce:
    @pytest.mark.parametrize(
        ("instruction", "expected"),
        [
            ("Left gluteus maximus and medius, MRI", ["left gluteus maximus", "left gluteus medius"]),
            ("Left ventricle and atrium, MRI", ["left heart ventricle", "left heart atrium"]),
            ("Right-hand parotid and the right submandibular", ["right parotid gland", "right submandibular gland"]),
            ("Adductor (medial) compartment of the right thigh", ["right thigh medial compartment"]),
            ("femur mri - l side only", ["left femur"]),
            ("left kidney and lungs, CT", ["left kidney", "lung"]),
        ],
    )
    def test_a_side(self, instruction: str, expected: list[str]) -> None:
        assert names(instruction) == expected

    def test_a_compound_and_its_side(self) -> None:
        found = match("Ober- und Unterlappen links, CT", LIBRARY).labels
        assert found == {"TotalSegmentator_v2": [10, 11]}

    @pytest.mark.parametrize(
        ("instruction", "expected"),
        [
            ("Nasopharyngeal carcinoma, primary and nodes, CT", {"SegRap2023_Task2": [1, 2]}),
            ("NPC GTVp and GTVnd on contrast CT", {"SegRap2023_Task2": [1, 2]}),
            ("GTVp nasopharynx, planning CT", {"SegRap2023_Task2": [1]}),
            ("Oropharynx cancer primary plus nodes on PET/CT", {"HECKTOR2022": [1, 2]}),
            ("GTVp and GTVnd on CT", {"HECKTOR2022": [1, 2], "SegRap2023_Task2": [1, 2]}),
        ],
    )
    def test_the_site_of_tumour_and_nodes(self, instruction: str, expected: dict[str, list[int]]) -> None:
        assert match(instruction, LIBRARY).labels == expected

    def test_tumours_at_the_end_of_a_list_belong_to_all_of_it(self) -> None:
        targets = parse("liver, kidneys and tumours, CT", VOCABULARY).targets
        assert [target.concepts for target in targets] == [("liver",), ("kidney",), ("tumor.liver", "tumor.kidney")]

    def test_segments_of_a_whole_are_counted(self) -> None:
        (target,) = parse("segments 5 to 8 of the liver", VOCABULARY).targets
        assert target.concepts == tuple(f"liver_segment_{number}" for number in range(5, 9))

    def test_a_numbered_range_stands_after_a_comma_and_a_side(self) -> None:
        (target,) = parse("CT上的肋骨，左侧第3至5根", VOCABULARY).targets
        assert (target.concepts, target.side) == (("rib_3", "rib_4", "rib_5"), "left")


class TestNoFalseFriends:
    def test_a_title_is_no_modality(self) -> None:
        assert parse("Mr Smith needs a liver segmentation", VOCABULARY).modality.families == ()
        assert parse("Mr liver", VOCABULARY).modality.families == ("MR",)

    def test_a_word_of_another_language_is_no_misspelling(self) -> None:
        assert names("maksa, CT") == []

    def test_a_word_written_as_it_sounds_is_one(self) -> None:
        assert names("dudenum and stomak ct") == ["duodenum", "stomach"]

    def test_an_unknown_disease_is_said_to_be_unknown(self) -> None:
        request = parse("segment Foobar syndrome in CT", VOCABULARY)
        assert request.targets == ()
        assert "Foobar" in (request.refusal or "")

    @pytest.mark.parametrize(
        ("instruction", "expected"),
        [
            ("tube from kidney to bladder, CT", ["ureter"]),
            ("Arteries feeding the myocardium, CT", ["coronary arteries"]),
            ("Gland under the jaw that makes saliva, CT", ["submandibular gland"]),
        ],
    )
    def test_a_function_is_not_what_it_mentions(self, instruction: str, expected: list[str]) -> None:
        assert names(instruction) == expected


class TestAskedAndAskedFor:
    @pytest.mark.parametrize(
        "instruction",
        [
            "Can someone tell me which part is the windpipe, segment it on my neck CT",
            "What is the trachea? Please segment it on CT.",
        ],
    )
    def test_a_command_after_a_question_is_a_request(self, instruction: str) -> None:
        assert names(instruction) == ["trachea"]

    @pytest.mark.parametrize("instruction", ["What is the trachea?", "How do I segment the trachea on CT?"])
    def test_a_question_alone_is_none(self, instruction: str) -> None:
        assert names(instruction) == []


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [("the vertebra right above L1, CT", ("vertebra_t12",)), ("vertebra just below T12", ("vertebra_l1",))],
)
def test_a_vertebra_is_named_by_its_neighbour(instruction: str, expected: tuple[str, ...]) -> None:
    (target,) = parse(instruction, VOCABULARY).targets
    assert target.concepts == expected


@pytest.mark.parametrize("instruction", ["cysts and tumours of the kidney, CT", "any cyst or tumour in the kidney, CT"])
def test_lesions_listed_before_their_site_share_it(instruction: str) -> None:
    assert names(instruction) == ["kidney cyst", "kidney tumor"]


def test_an_excluded_part_leaves_a_whole_that_holds_its_voxels() -> None:
    found = match("larynx without the glottis, CT", LIBRARY).labels
    assert found == {"SegRap2023_Task1": [48, 50, 51]}


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("ET, TC and WT for BraTS", {"BraTS21": [1, 2, 3]}),
        ("tumeur, TC", {"AutoPET": [1], "Adrenal-ACC-Ki67-Seg": [1], "KiTS23": [2], "LiTS": [2]}),
        ("cord, MRI", {"TotalSegmentator_MRI": [21]}),
        ("trachea for lung RT planning CT", {"SegRap2023_Task1": [54], "TotalSegmentator_v2": [16]}),
        ("除L5外的所有腰椎 CT", {"TotalSegmentator_v2": [28, 29, 30, 31]}),
    ],
)
def test_neighbouring_words_say_what_a_short_one_means(instruction: str, expected: dict[str, list[int]]) -> None:
    assert match(instruction, LIBRARY).labels == expected
