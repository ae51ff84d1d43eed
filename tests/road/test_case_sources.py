from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medsegagent.errors import CaseListError, MedSegAgentError, UsageError
from medsegagent.road.case_sources import ListedCase, read_cases


def csv_file(folder: Path, text: str, name: str = "cases.csv") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def images(cases: tuple[ListedCase, ...], root: Path) -> dict[str, dict[str, str]]:
    return {
        case.name: {channel: str(file.relative_to(root)) for channel, file in case.images.items()} for case in cases
    }


class TestATable:
    def test_has_a_row_per_case_with_paths_relative_to_it(self, tmp_path: Path) -> None:
        table = csv_file(tmp_path, "case,image,instruction\na,scans/a.nii.gz,\nb,/data/b.nii.gz,the spleen\n")
        assert read_cases(table, "the liver") == (
            ListedCase("a", {"": tmp_path / "scans/a.nii.gz"}, "the liver"),
            ListedCase("b", {"": Path("/data/b.nii.gz")}, "the spleen"),
        )

    def test_may_have_a_column_for_each_channel(self, tmp_path: Path) -> None:
        table = csv_file(tmp_path, "\ufeffcase, image:T1, image:FLAIR\na,t1.nii,flair.nii\nb,t1b.nii,\n")
        found = read_cases(table, "tumour")
        assert images(found, tmp_path) == {"a": {"T1": "t1.nii", "FLAIR": "flair.nii"}, "b": {"T1": "t1b.nii"}}

    def test_may_hold_quoted_cells_over_several_lines(self, tmp_path: Path) -> None:
        table = csv_file(tmp_path, 'case,image,instruction\r\na,"x, y.nii","the liver,\nand the ""spleen"""\r\n')
        (case,) = read_cases(table)
        assert (case.instruction, case.images[""].name) == ('the liver,\nand the "spleen"', "x, y.nii")

    @pytest.mark.parametrize(
        "text",
        [
            "Case,Image,Instruction\na,a.nii,liver\n",
            "CASE, IMAGE ,instruction,,,\na,a.nii,liver,,,\n,,,,,\n,,,,,\n",
            "case,image,instruction,,\na,a.nii,liver\n",
            "\n,,\ncase,image,instruction\na,a.nii,liver,,,,\n",
            "Case;Image;Instruction;;\r\na;a.nii;liver;;\r\n;;;;\r\n",
            "case\timage\tinstruction\na\ta.nii\tliver\n",
        ],
    )
    def test_may_be_as_a_spreadsheet_saves_it(self, tmp_path: Path, text: str) -> None:
        assert read_cases(csv_file(tmp_path, text)) == (ListedCase("a", {"": tmp_path / "a.nii"}, "liver"),)

    def test_keeps_a_channels_own_spelling(self, tmp_path: Path) -> None:
        found = read_cases(csv_file(tmp_path, "Case,Image:T1ce,IMAGE: FLAIR\na,1.nii,2.nii\n"), "tumour")
        assert images(found, tmp_path) == {"a": {"T1ce": "1.nii", "FLAIR": "2.nii"}}

    def test_text_in_a_column_without_a_name_is_not_lost(self, tmp_path: Path) -> None:
        with pytest.raises(CaseListError, match="column without a name"):
            read_cases(csv_file(tmp_path, "case,image,,\na,a.nii,,liver\n"), "spleen")

    def test_may_be_json_lines(self, tmp_path: Path) -> None:
        rows = [{"case": "a", "image": "a.nii"}, {"case": "é", "image": {"T1": "1.nii"}, "instruction": "spleen"}]
        table = csv_file(tmp_path, "\n\n".join(json.dumps(row) for row in rows), "cases.jsonl")
        found = read_cases(table, "liver")
        assert images(found, tmp_path) == {"a": {"": "a.nii"}, "é": {"T1": "1.nii"}}
        assert [case.instruction for case in found] == ["liver", "spleen"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "no case in it"),
            ("case,image\n", "no case in it"),
            ("image\na.nii\n", "names no case"),
            ("case,image\na,\n", "names no image"),
            ("case,image,age\na,a.nii,7\n", "'age'"),
            ("case,image\na,a.nii,7\n", "more cells"),
            ("case,case,image\na,b,a.nii\n", "same name"),
            ('case,image\n"a,a.nii\n', "not CSV"),
            ("case,image,image:T1\na,a.nii,b.nii\n", "beside others"),
            ("case,image\na,a.nii\nA,b.nii\n", "more than one"),
            ("case,image\na,a\0.nii\n", "text"),
        ],
    )
    def test_that_cannot_be_used_is_refused(self, tmp_path: Path, text: str, words: str) -> None:
        with pytest.raises(CaseListError, match=words):
            read_cases(csv_file(tmp_path, text), "liver")

    @pytest.mark.parametrize("line", ["[1]", "{", '{"case": 1, "image": "a"}', "[" * 100_000, '{"case": "a"}'])
    def test_of_json_that_cannot_be_used_is_refused(self, tmp_path: Path, line: str) -> None:
        with pytest.raises(CaseListError, match="row 1"):
            read_cases(csv_file(tmp_path, line, "cases.jsonl"), "liver")

    def test_needs_an_instruction_for_every_case(self, tmp_path: Path) -> None:
        table = csv_file(tmp_path, "case,image,instruction\na,a.nii,liver\nb,b.nii,\n")
        with pytest.raises(CaseListError, match="'b' has no instruction"):
            read_cases(table)

    def test_that_is_no_text_or_no_table_or_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "cases.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(CaseListError, match="UTF-8"):
            read_cases(tmp_path / "cases.csv", "liver")
        with pytest.raises(CaseListError, match=r"absent\.csv"):
            read_cases(tmp_path / "absent.csv", "liver")
        with pytest.raises(UsageError, match="neither"):
            read_cases(tmp_path / "absent.xlsx", "liver")


class TestANameThatLeavesTheOutputFolder:
    @pytest.mark.parametrize(
        "name",
        [
            "..",
            ".",
            "../a",
            "a/b",
            "/tmp/a",
            "a\\b",
            "C:a",
            ".hidden",
            "-rf",
            "=1+1",
            "NUL",
            "con.txt",
            "cases.csv",
            "Cases.CSV",
            "a\u202eb",
            "a\tb",
            "a.",
            "x" * 201,
            "é" * 101,
            "a*",
            "\u200b",
        ],
    )
    def test_is_refused(self, tmp_path: Path, name: str) -> None:
        table = csv_file(tmp_path, json.dumps({"case": name, "image": "a.nii"}), "cases.jsonl")
        with pytest.raises(CaseListError):
            read_cases(table, "liver")

    @pytest.mark.parametrize("name", ["a", "Ünïcode", "患者 1", "sub-01_ses-2.a", "_x", "0"])
    def test_is_not_an_honest_one(self, tmp_path: Path, name: str) -> None:
        table = csv_file(tmp_path, json.dumps({"case": name, "image": "a.nii"}), "cases.jsonl")
        assert read_cases(table, "liver")[0].name == name

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(names=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3))
    @example(names=["ﬀ", "FF"])
    def test_can_never_be_made_up(self, tmp_path: Path, names: list[str]) -> None:
        lines = [json.dumps({"case": name, "image": "a.nii"}) for name in names]
        try:
            cases = read_cases(csv_file(tmp_path, "\n".join(lines), "cases.jsonl"), "liver")
        except MedSegAgentError:
            return
        out = tmp_path / "out"
        assert all((out / case.name).resolve().parent == out.resolve() for case in cases)
        assert len({case.name.casefold() for case in cases}) == len(cases)


class TestAFolder:
    def test_holds_a_case_per_image_and_per_folder(self, tmp_path: Path) -> None:
        names = "b.nii.gz", "a.mha", "c/ct.nrrd", "d/IM0001", "e/x_T1w.nii.gz", "e/x_FLAIR.nii.gz", "f_0000.nii.gz"
        touch(tmp_path, *names, "notes.txt", ".hidden.nii", "out/cases.csv", "run/run.json", "scan_2023.nii")
        assert images(read_cases(tmp_path, "liver"), tmp_path) == {
            "a": {"": "a.mha"},
            "b": {"": "b.nii.gz"},
            "c": {"": "c/ct.nrrd"},
            "d": {"": "d"},
            "e": {"FLAIR": "e/x_FLAIR.nii.gz", "T1": "e/x_T1w.nii.gz"},
            "f": {"": "f_0000.nii.gz"},
            "scan_2023": {"": "scan_2023.nii"},
        }

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            (("notes.txt",), "no case"),
            (("a.nii", "a.nii.gz"), "more than one"),
            (("a_0000.nii", "a_0001.nii"), "several channels"),
            (("p/one.nii", "p/two.nii"), "which channel"),
            (("1.dcm", "2.dcm"), "DICOM series itself"),
        ],
    )
    def test_that_cannot_be_used_is_refused(self, tmp_path: Path, files: tuple[str, ...], words: str) -> None:
        with pytest.raises(CaseListError, match=words):
            read_cases(touch(tmp_path, *files), "liver")


def test_a_file_whose_name_is_not_utf_8_is_a_case_like_another(tmp_path: Path) -> None:
    touch(tmp_path, os.fsdecode(b"caf\xe9.nii.gz"), "b.nii.gz")
    assert [case.name for case in read_cases(tmp_path, "liver")] == ["b", "caf_"]
