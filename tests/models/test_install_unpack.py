from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trained import INNER, WEIGHTS, model_files, write_folder, write_zip

from medsegagent.cards.card import NnunetPart
from medsegagent.errors import ModelError, OutputError
from medsegagent.models.unpack import Unpacked, open_source, take_model


def part(**fields: Any) -> NnunetPart:
    return NnunetPart.model_validate({"dataset_folder": "Dataset900_Toy"} | fields)


def take(source: Path, into: Path, wanted: NnunetPart | None = None) -> Unpacked:
    with open_source(source) as tree:
        return take_model(tree, wanted or part(), into, str(source))


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


ALL = {"dataset.json", "plans.json", "fold_0/checkpoint_final.pth"}


@pytest.mark.parametrize(
    ("dataset", "inner", "original"),
    [
        ("Dataset900_Toy", INNER, f"Dataset900_Toy/{INNER}"),
        ("", INNER, INNER),
        ("", "", "."),
        ("weights/v1", "", "weights/v1"),
    ],
    ids=["as nnU-Net exports", "model folder", "no folder at all", "folder of another name"],
)
def test_a_model_is_found_however_its_archive_is_laid_out(
    tmp_path: Path, dataset: str, inner: str, original: str
) -> None:
    archive = write_zip(tmp_path / "m.zip", model_files(dataset, inner))
    assert take(archive, tmp_path / "out") == Unpacked(original, (0,), ())
    assert written(tmp_path / "out") == ALL
    assert (tmp_path / "out/fold_0/checkpoint_final.pth").read_bytes() == WEIGHTS


def test_nnunets_own_export_can_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = write_folder(tmp_path / "results", model_files(folds=("0", "1")))
    folder = results / "Dataset900_Toy" / INNER
    for name in ("fold_0", "fold_1"):
        write_folder(folder / name, {"validation/summary.json": b"{}"})
        (folder / name / "progress.png").write_bytes(b"png")
        (folder / name / "debug.json").write_bytes(b"{}")
    (folder / "dataset_fingerprint.json").write_bytes(b"{}")
    monkeypatch.setenv("nnUNet_results", str(results))
    exporting = pytest.importorskip("nnunetv2.model_sharing.model_export")
    archive = tmp_path / "exported.zip"
    exporting.export_pretrained_model(900, str(archive), ("3d_fullres",), folds=(0, 1), strict=False)
    assert take(archive, tmp_path / "out") == Unpacked(f"Dataset900_Toy/{INNER}", (0, 1), ())
    assert written(tmp_path / "out") == ALL | {"fold_1/checkpoint_final.pth", "dataset_fingerprint.json"}


def test_a_folder_serves_like_an_archive(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "nnUNet_results", model_files())
    assert take(source, tmp_path / "out").folds == (0,)
    assert take(source / "Dataset900_Toy" / INNER, tmp_path / "again").original == "."
    assert written(tmp_path / "out") == written(tmp_path / "again") == ALL


def test_only_what_a_model_needs_is_taken(tmp_path: Path) -> None:
    top = f"Dataset900_Toy/{INNER}"
    more = {
        f"{top}/fold_0/checkpoint_best.pth": b"x",
        f"{top}/postprocessing.pkl": b"x",
        f"{top}/trainer_class.py": b"x",
        f"{top}/fold_all/checkpoint_final.pth": WEIGHTS,
        "README.md": b"x",
    }
    archive = write_zip(tmp_path / "m.zip", model_files(folds=("0", "1", "2")) | more)
    taken = take(archive, tmp_path / "out", part(folds=[2, 0]))
    assert taken.folds == (2, 0)
    assert written(tmp_path / "out") == ALL | {"fold_2/checkpoint_final.pth"}


def test_of_several_models_the_one_of_the_card_is_taken(tmp_path: Path) -> None:
    other = "nnUNetTrainer__nnUNetPlans__3d_lowres"
    files = model_files() | model_files(inner=other, weights=b"other") | model_files("Dataset901_Else", weights=b"else")
    archive = write_zip(tmp_path / "m.zip", files)
    take(archive, tmp_path / "out")
    assert (tmp_path / "out/fold_0/checkpoint_final.pth").read_bytes() == WEIGHTS
    with pytest.raises(ModelError, match="holds several models"):
        take(archive, tmp_path / "none", part(dataset_folder="Dataset777_New", plans="otherPlans"))


def test_missing_folds_are_told_and_no_fold_at_all_is_an_error(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "m.zip", model_files(folds=("1",)))
    assert take(archive, tmp_path / "out", part(folds=[0, 1])).missing == (0,)
    with pytest.raises(ModelError, match="fold 3 is wanted, it has 1"):
        take(archive, tmp_path / "none", part(folds=[3]))
    with pytest.raises(ModelError, match=r"no fold holds checkpoint_best.pth \(found: checkpoint_final.pth\)"):
        take(archive, tmp_path / "none", part(checkpoint="checkpoint_best.pth"))


ESCAPES = ["../evil.pth", "a/../../evil.pth", "/evil.pth", "C:\\evil.pth", "C:evil.pth", "a\\..\\evil.pth", "..", "//x"]


@pytest.mark.parametrize("name", ESCAPES)
def test_an_archive_with_a_path_out_of_itself_is_refused_whole(tmp_path: Path, name: str) -> None:
    archive = write_zip(tmp_path / "in" / "m.zip", model_files() | {name: b"evil"})
    with pytest.raises(ModelError, match="leads out of it"):
        take(archive, tmp_path / "in" / "out")
    assert written(tmp_path) == {"in/m.zip"}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR], ids=["link", "pipe", "device"])
def test_an_archive_with_anything_but_files_and_folders_is_refused(tmp_path: Path, kind: int) -> None:
    archive = write_zip(tmp_path / "m.zip", model_files())
    with zipfile.ZipFile(archive, "a") as opened:
        entry = zipfile.ZipInfo("fold_0/checkpoint_final.pth")
        entry.external_attr = (kind | 0o777) << 16
        opened.writestr(entry, "/etc/passwd")
    with pytest.raises(ModelError, match="holds a link or device"):
        take(archive, tmp_path / "out")


def test_a_zip_bomb_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    bomb = write_zip(tmp_path / "m.zip", model_files() | {"zeros.bin": bytes(200 * 2**20)})
    assert bomb.stat().st_size < 2**20
    with pytest.raises(ModelError, match="would unpack to 200 MiB"):
        take(bomb, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_entry_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "m.zip", model_files())
    honest = archive.read_bytes()
    size = len(WEIGHTS).to_bytes(4, "little")
    archive.write_bytes(honest.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(ModelError):
        take(archive, tmp_path / "out")


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "m.zip", model_files() | {f"Dataset900_Toy/{INNER}/Plans.json": b"{}"})
    with pytest.raises(ModelError, match="twice"):
        take(archive, tmp_path / "out")


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "m.zip", {f"{number}.txt": b"" for number in range(20_001)})
    with pytest.raises(ModelError, match="holds 20001 files"):
        take(archive, tmp_path / "out")


def test_a_damaged_archive_is_a_clear_error(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "m.zip", model_files())
    content = bytearray(archive.read_bytes())
    at = content.index(b"checkpoint_final.pth") + 25
    content[at] ^= 0xFF
    archive.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth in it cannot be read"):
        take(archive, tmp_path / "out")
    for text in (b"", b"<html>not found</html>", bytes(content[: len(content) // 2])):
        archive.write_bytes(text)
        with pytest.raises(ModelError, match="not a zip archive that can be read"):
            take(archive, tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_the_archives_fault_however_it_is_packed(tmp_path: Path, method: int) -> None:
    archive = tmp_path / "m.zip"
    with zipfile.ZipFile(archive, "w", method) as packed:
        for name, content in model_files().items():
            packed.writestr(name, content)
    take(archive, tmp_path / "good")
    with zipfile.ZipFile(archive) as packed:
        info = packed.getinfo(f"Dataset900_Toy/{INNER}/fold_0/checkpoint_final.pth")
    whole = archive.read_bytes()
    start = info.header_offset + 30 + len(info.filename)
    refused = 0
    for at in range(min(info.compress_size, 100)):
        archive.write_bytes(whole[: start + at] + bytes([whole[start + at] ^ 0x55]) + whole[start + at + 1 :])
        try:
            take(archive, tmp_path / "out")
        except ModelError:
            refused += 1
        else:  # some bits mean nothing
            assert (tmp_path / "out/fold_0/checkpoint_final.pth").read_bytes() == WEIGHTS
    assert refused


@pytest.mark.parametrize(
    ("at", "value"),
    [(6, b"\x63\x00"), (8, b"\x01\x00"), (8, b"\x00\x08"), (10, b"\x62\x00"), (42, b"\xff\xff\xff\x7f")],
)
def test_an_archive_of_a_version_to_come_or_with_broken_entries_is_a_clear_error(
    tmp_path: Path, at: int, value: bytes
) -> None:
    """Version needed, encryption, a name that says it is UTF-8, compression, and where the member begins."""
    archive = write_zip(tmp_path / "m.zip", {"ä" + name: content for name, content in model_files("", "").items()})
    broken = bytearray(archive.read_bytes())
    for entry in [found.start() for found in re.finditer(b"PK\x01\x02", bytes(broken))]:
        broken[entry + at : entry + at + len(value)] = value
        broken[entry + 46] = 0xFF
    archive.write_bytes(broken)
    with pytest.raises(ModelError, match=r"m\.zip"):
        take(archive, tmp_path / "out")


def test_a_member_of_zeros_hidden_in_a_large_archive_is_refused(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(3 * 2**20)
    files = model_files(weights=noise) | {f"Dataset900_Toy/{INNER}/fold_1/checkpoint_final.pth": bytes(200 * 2**20)}
    with pytest.raises(ModelError, match=r"fold_1/checkpoint_final\.pth' would unpack to 200 MiB"):
        take(write_zip(tmp_path / "m.zip", files), tmp_path / "out")


def test_a_json_file_of_many_megabytes_is_refused_before_it_is_written(tmp_path: Path) -> None:
    files = model_files() | {f"Dataset900_Toy/{INNER}/plans.json": b"[" + b"1," * 9 * 2**20 + b"1]"}
    with pytest.raises(ModelError, match=r"plans\.json has more than 16 MiB"):
        take(write_zip(tmp_path / "m.zip", files), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pipe_or_device_is_no_archive_and_no_member(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "zero.zip").symlink_to("/dev/zero")
    for archive in (tmp_path / "pipe.zip", tmp_path / "zero.zip"):
        with pytest.raises(ModelError, match="no regular file"):
            take(archive, tmp_path / "out")
    for number, make in enumerate(
        (os.mkfifo, lambda path: os.symlink("nowhere", path), lambda path: os.symlink(path.name, path))
    ):
        source = write_folder(tmp_path / str(number), model_files("", ""))
        (source / "plans.json").unlink()
        make(source / "plans.json")
        with pytest.raises(ModelError, match=r"plans\.json"):
            take(source, tmp_path / "out")


def test_an_archive_without_a_model_is_refused(tmp_path: Path) -> None:
    files = {path: content for path, content in model_files().items() if "checkpoint" not in path}
    for archive in (write_zip(tmp_path / "a.zip", files), write_zip(tmp_path / "b.zip", {"cat.png": b"x"})):
        with pytest.raises(ModelError, match="holds no trained nnU-Net"):
            take(archive, tmp_path / "out")


def test_a_source_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        take(tmp_path / "gone.zip", tmp_path / "out")


def test_a_link_out_of_a_folder_is_refused_and_one_within_is_followed(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "model", model_files("", ""))
    (tmp_path / "secret.pth").write_bytes(b"secret")
    checkpoint = source / "fold_0" / "checkpoint_final.pth"
    checkpoint.rename(source / "blob")
    checkpoint.symlink_to(source / "blob")
    take(source, tmp_path / "out")
    assert (tmp_path / "out/fold_0/checkpoint_final.pth").read_bytes() == WEIGHTS
    checkpoint.unlink()
    checkpoint.symlink_to(tmp_path / "secret.pth")
    with pytest.raises(ModelError, match="leads out of the folder"):
        take(source, tmp_path / "none")


def test_a_full_disk_is_told_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "m.zip", model_files())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OutputError, match="not enough room to unpack it"):
        take(archive, tmp_path / "out")


names = st.text(min_size=1, max_size=12).filter(lambda text: text[0] != "\0")  # zipfile cannot write an empty one


@settings(max_examples=60, deadline=None)
@given(name=names.map(lambda text: f"{text}/checkpoint_final.pth"))
def test_whatever_an_entry_is_called_nothing_is_written_outside(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    top = tmp_path_factory.mktemp("any")
    try:
        archive = write_zip(top / "m.zip", model_files("", "") | {name: b"x"})
    except (UnicodeEncodeError, ValueError):
        return  # no archive can hold such a name
    with contextlib.suppress(ModelError):
        take(archive, top / "out")
    assert {path.split("/")[0] for path in written(top)} <= {"m.zip", "out"}
    assert written(top / "out") <= ALL
