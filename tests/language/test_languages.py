"""One order in every language, and which languages are heard."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medsegagent.errors import VocabularyError
from medsegagent.language import parse
from medsegagent.language.languages import languages_of
from medsegagent.vocabulary import load
from medsegagent.vocabulary.compile import DATA, LANGUAGES, compile_files, data_files
from medsegagent.vocabulary.text import tokenize

VOCABULARY = load()
# Left kidney and right lung; liver without the tumour.
ORDERS = {
    "en": ("Please segment the left kidney and the right lung", "liver without the tumour"),
    "de": ("Bitte die linke Niere und die rechte Lunge segmentieren", "Leber ohne den Tumor"),
    "fr": ("Segmentez le rein gauche et le poumon droit", "foie sans la tumeur"),
    "es": ("Segmenta el riñón izquierdo y el pulmón derecho", "hígado sin el tumor"),
    "it": ("Segmenta il rene sinistro e il polmone destro", "fegato senza tumore"),
    "pt": ("Segmentar o rim esquerdo e o pulmão direito", "fígado sem o tumor"),
    "nl": ("Segmenteer de linker nier en de rechter long", "lever zonder de tumor"),
    "pl": ("Proszę o segmentację: lewa nerka i prawe płuco", "wątroba bez guza"),
    "tr": ("Sol böbrek ve sağ akciğeri segmente et", "tümör hariç karaciğer"),
    "ru": ("Сегментируй левую почку и правое лёгкое", "печень без опухоли"),
    "zh": ("请分割左肾和右肺", "不含肿瘤的肝脏"),
    "ja": ("左腎臓と右肺を抽出してください", "腫瘍を除く肝臓"),
    "ko": ("왼쪽 신장과 오른쪽 폐를 분할해 주세요", "종양을 제외한 간"),
}


def wanted(text: str) -> set[tuple[str, str]]:
    return {(target.concepts[0], str(target.side or "")) for target in parse(text, VOCABULARY).targets}


def spoken(text: str) -> frozenset[str]:
    return languages_of(text, tokenize(text), VOCABULARY)


@pytest.mark.parametrize("language", ORDERS)
def test_a_language_is_understood(language: str) -> None:
    order, without = ORDERS[language]
    assert wanted(order) == {("kidney", "left"), ("lung", "right")}
    assert wanted(without) == {("liver", "")}


def test_every_language_has_an_order_here() -> None:
    assert {*ORDERS, "la"} == set(LANGUAGES)


@pytest.mark.parametrize(
    ("text", "languages"),
    [
        ("the spleen and the liver", {"en"}),
        ("die Leber und die Milz", {"de"}),
        ("segmentiere the left kidney", {"de", "en"}),
        ("rein gauche", {"fr"}),
        ("foobar quux", set()),
        ("печень", {"ru"}),
        ("肝臓と脾臓", {"ja"}),
    ],
)
def test_the_languages_are_decided_first(text: str, languages: set[str]) -> None:
    assert spoken(text) == languages


def test_a_word_is_heard_only_in_a_language_that_is_spoken() -> None:
    assert wanted("re: the kidneys") == {("kidney", "")}
    assert wanted("milt of lever") == {("spleen", ""), ("liver", "")}  # Dutch "of" is "or"
    assert wanted("head of femur") == {("femoral_head", "")}


def test_languages_have_the_same_classes_as_english() -> None:
    known = set(yaml.safe_load((DATA / "languages" / "en.yaml").read_text(encoding="utf-8"))["words"])
    universal = {"whose", "side_mark", "modality"}
    for file in (DATA / "languages").glob("*.yaml"):
        classes = set(yaml.safe_load(file.read_text(encoding="utf-8"))["words"])
        assert classes - known - universal == set(), file.name


def test_a_term_for_an_unknown_concept_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "languages"
    folder.mkdir()
    (folder / "xx.yaml").write_text("name: X\nterms: {nowhere: foo}\n", encoding="utf-8")
    with pytest.raises(VocabularyError, match="not defined"):
        compile_files([*data_files(), folder / "xx.yaml"])
