"""Checkpoints made to take memory, or time: refused before anything is copied."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medsegagent.engines.nnunet.checkpoint import load_checkpoint
from medsegagent.errors import ModelError

TRAINER = {"trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": (0, 1, 2)}
ROOM = 4 * 2**30
"""Bytes of address space for a child: torch itself takes less than two."""


def saved(file: Path, weights: dict[str, Any], **more: Any) -> Path:
    torch.save({"network_weights": weights} | TRAINER | more, file)
    return file


def repacked(file: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """The same archive with its members changed."""
    members = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            members[name] = change(name, archive.read(name))
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def with_pickle(file: Path, pickled: bytes) -> Path:
    saved(file, {"a": torch.zeros(4)})
    return repacked(file, lambda name, content: pickled if name.endswith("data.pkl") else content)


def test_tensors_come_back_as_they_were_saved(tmp_path: Path) -> None:
    whole = torch.arange(120, dtype=torch.float32).reshape(4, 5, 6)
    weights = {
        "contiguous": whole.clone(),
        "transposed": whole.permute(2, 0, 1),
        "a part": whole[1:3, ::2, 1:],
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "brain": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "double": torch.tensor([1e-3], dtype=torch.float64),
        "count": torch.tensor(2**40),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    log = {"loss": [np.float64(0.5)], "when": np.arange(3), "device": torch.device("cpu"), "seen": {1, 2}}
    file = saved(tmp_path / "c.pth", OrderedDict(weights), logging=log, optimizer_state={"state": {0: whole}})
    read = load_checkpoint(file).weights
    assert read.keys() == weights.keys()
    for name, tensor in weights.items():
        kept = torch.float32 if tensor.is_floating_point() else tensor.dtype
        assert read[name].dtype == kept
        assert torch.equal(read[name], tensor.detach().to(kept)), name


def test_a_folder_may_be_called_by_bytes_that_are_no_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    saved(tmp_path / "c.pth", {"a": torch.ones(3)}).rename(folder / "c.pth")
    assert torch.equal(load_checkpoint(folder / "c.pth").weights["a"], torch.ones(3))


def test_weights_under_two_names_are_held_once(tmp_path: Path) -> None:
    shared = torch.ones(1000)
    file = saved(tmp_path / "c.pth", {f"name{index}": shared for index in range(50)})
    read = load_checkpoint(file).weights
    assert len({tensor.data_ptr() for tensor in read.values()}) == 1


def test_what_was_read_is_a_copy_that_outlives_the_file(tmp_path: Path) -> None:
    file = saved(tmp_path / "c.pth", {"a": torch.ones(1000)})
    read = load_checkpoint(file).weights
    file.write_bytes(b"\0" * file.stat().st_size)
    assert torch.equal(read["a"], torch.ones(1000))


START = b"\x80\x02"
DOUBLED = b"q\x01h\x01\x86"
"""Makes a pair of what is on the stack and itself."""

BOMBS: dict[str, Callable[[Path], Path]] = {
    "a stride of 0": lambda file: saved(file, {"a": torch.zeros(1).expand(2**20, 2**20)}),
    "a stride of 0 in one dimension of two": lambda file: saved(file, {"a": torch.zeros(2, 1).expand(2, 2**40)}),
    "overlapping windows": lambda file: saved(file, {"a": torch.zeros(2**12).as_strided((2**11, 2**11), (1, 1))}),
    "many views of one storage": lambda file: saved(
        file, {f"n{i}": whole[i:] for whole in [torch.zeros(2**16)] for i in range(300)}
    ),
    "a tensor without data": lambda file: saved(file, {"a": torch.zeros(2**40, device="meta")}),
    "a sparse tensor": lambda file: saved(
        file, {"a": torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (2**40,))}
    ),
    "a deflated data.pkl": lambda file: repacked(
        saved(file, {"a": torch.zeros(4)}),
        lambda name, content: content + b"\0" * 2**28 if name.endswith("data.pkl") else content,
        zipfile.ZIP_DEFLATED,
    ),
    "a padded data.pkl": lambda file: repacked(
        saved(file, {"a": torch.zeros(4)}),
        lambda name, content: content + b"\0" * 2**26 if name.endswith("data.pkl") else content,
    ),
    "deflated weights": lambda file: repacked(
        saved(file, {"a": torch.zeros(2**26)}), lambda _, content: content, zipfile.ZIP_DEFLATED
    ),
    "a storage that is cut": lambda file: repacked(
        saved(file, {"a": torch.zeros(1000)}), lambda name, content: content[:2000] if "/data/" in name else content
    ),
    "big-endian numbers": lambda file: repacked(
        saved(file, {"a": torch.zeros(4)}), lambda name, content: b"big" if "byteorder" in name else content
    ),
    "an array of any size by a constructor": lambda file: with_pickle(
        file, b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x08\x85R."
    ),
    "text that is encoded again and again": lambda file: with_pickle(
        file,
        b"\x80\x02" + b"c_codecs\nencode\n" * 40 + b"X\x01\x00\x00\x00a" + b"X\x03\x00\x00\x00hex\x86R" * 40 + b".",
    ),
    "a key whose hash takes for ever": lambda file: with_pickle(
        file, b"\x80\x02}(K\x01" + b"q\x01h\x01\x86" * 200 + b"K\x01u."
    ),
    "a tuple a million deep as a key": lambda file: with_pickle(
        file, b"\x80\x02}(K\x01" + b"\x85" * 10**6 + b"K\x01u."
    ),
    "an opcode that is never written": lambda file: with_pickle(file, b"\x80\x05\x96" + b"\xff" * 7 + b"\x00."),
    "a place in the memo beyond all measure": lambda file: with_pickle(file, b"\x80\x02}r\xff\xff\xff\xff."),
    "a list in itself": lambda file: with_pickle(file, b"\x80\x02]q\x00h\x00a."),
    "an empty stack": lambda file: with_pickle(file, b"\x80\x02R."),
    "no end": lambda file: with_pickle(file, b"\x80\x02}"),
    "trainers in trainers": lambda file: with_pickle(
        file,
        b"\x80\x02}(X\x0f\x00\x00\x00network_weights}X\x0c\x00\x00\x00trainer_nameK\x01"
        + b"q\x01h\x01\x86" * 100
        + b"u.",
    ),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_a_model_error_in_little_memory_and_at_once(tmp_path: Path, kind: str) -> None:
    file = BOMBS[kind](tmp_path / "c.pth")
    with pytest.raises(ModelError, match="checkpoint"):
        load_checkpoint(file)


def test_all_of_them_are_refused_where_memory_is_short(tmp_path: Path) -> None:
    files = [str(make(tmp_path / f"{index}.pth")) for index, make in enumerate(BOMBS.values())]
    probe = (
        "import sys\n"
        "from pathlib import Path\n"
        "from medsegagent.engines.nnunet.checkpoint import load_checkpoint\n"
        "from medsegagent.errors import ModelError\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        load_checkpoint(Path(name))\n"
        "    except ModelError:\n"
        "        print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *files],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM)),
    )
    assert done.stdout.count("refused") == len(BOMBS), done.stderr


def test_a_pickle_that_names_what_nobody_needs_is_said_to_run_code(tmp_path: Path) -> None:
    file = with_pickle(tmp_path / "c.pth", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(ModelError, match=r"would run code on loading and is refused \(os\.system\)"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("at", "value"),
    [(6, b"\x63\x00"), (8, b"\x01\x00"), (8, b"\x00\x08"), (10, b"\x0c\x00"), (42, b"\xff\xff\xff\xff")],
)
def test_a_zip_of_a_version_to_come_or_with_broken_entries_is_a_model_error(
    tmp_path: Path, at: int, value: bytes
) -> None:
    """Version needed, encryption, a name that says it is UTF-8, compression, and where the member begins."""
    file = saved(tmp_path / "c.pth", {"a": torch.zeros(4)})
    broken = bytearray(file.read_bytes())
    for entry in [found.start() for found in re.finditer(b"PK\x01\x02", bytes(broken))]:
        broken[entry + at : entry + at + len(value)] = value
        broken[entry + 46] = 0xFF
    file.write_bytes(broken)
    with pytest.raises(ModelError, match="checkpoint"):
        load_checkpoint(file)
