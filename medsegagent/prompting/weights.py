"""Install the public weights of nnInteractive: from their publisher, a mirror, or a folder that somebody has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from medsegagent.engines.nnunet.checkpoint import load_tensors
from medsegagent.engines.nnunet.trust import check_plans
from medsegagent.errors import AnswerNeededError, ModelError, NoModelError, OutputError
from medsegagent.models.download import Patience, Progress, download
from medsegagent.models.folder import read_json
from medsegagent.models.hashes import sha256_of, write_object
from medsegagent.models.own_store import ModelHome

MODEL = "nninteractive"
LICENCE = "CC BY-NC-SA 4.0"
SOURCE = "https://huggingface.co/MIC-DKFZ/nnInteractive/resolve/main/nnInteractive_v1.0"
SHA256 = "b3ac4421f85457bbd1aa0d87f5e67bcb7bc8e2ce6b824b6ac45077cc5d630ea9"
"""Of the checkpoint, 411 MB."""
ACCEPTED = "ACCEPTED"
"""A file in the installed folder: when the licence was accepted."""

_CHECKPOINT = "fold_0/checkpoint_final.pth"
_NEEDED = ("plans.json", "dataset.json", _CHECKPOINT)
_EITHER = ("inference_info.json", "inference_session_class.json")


def install_nninteractive(
    home: ModelHome,
    *,
    accepted: bool,
    source: str = "",
    checksum: str = SHA256,
    progress: Callable[[str], Progress] | None = None,
    patience: Patience | None = None,
) -> tuple[Path, bool]:
    """Fetch, check, and move into place in one step; what is there already stays.

    Args:
        home: The model store.
        accepted: The licence is accepted.
        source: A folder, or the address of one, that holds the files; empty: the publisher's.
        checksum: sha256 of the checkpoint; empty: any that passes the checks, for a folder of one's own training.
        progress: Given a file's name, makes what is told of the bytes as they come.
        patience: How long to try a download.

    Returns:
        The folder, and whether it is new.

    Raises:
        AnswerNeededError: If the licence is not accepted.
        NoModelError: If the files cannot be had.
        ModelError: If they are damaged, others than the published ones, or not safe.
        OutputError: If the store cannot be written.
    """
    if not accepted:
        what = f"the weights of nnInteractive are under {LICENCE}: not for commercial use, changes under the same terms"
        remedy = "Read the licence; if it allows your use, give --accept-licence."
        raise AnswerNeededError(what, remedy, SOURCE.partition("/resolve")[0])
    target = home.folder / ".promptable" / MODEL
    with home.lock(MODEL):
        if target.is_dir():
            return target, False
        staging = home.staging_of(MODEL)
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir(parents=True)
            _collect(source or SOURCE, staging, progress, patience)
            _check(staging, checksum)
            record = {
                "model": MODEL,
                "source": source or SOURCE,
                "licence": LICENCE,
                "installed": datetime.now(UTC).isoformat(timespec="seconds"),
                "files": {
                    file.relative_to(staging).as_posix(): sha256_of(file)
                    for file in sorted(staging.rglob("*"))
                    if file.is_file()
                },
            }
            write_object(staging / "medsegagent.json", record)
            (staging / ACCEPTED).write_text(f"{LICENCE}, accepted {record['installed']}\n", "utf-8")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging, target)
        except OSError as error:
            what = f"the model store cannot be written ({error.strerror or error})"
            raise OutputError(what, "Name another folder in MEDSEGAGENT_MODELS.", str(home.folder)) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target, True


def _collect(source: str, staging: Path, progress: Callable[[str], Progress] | None, patience: Patience | None) -> None:
    """Bring the files together; of the two that say what the weights take, one is enough."""
    remote = urlsplit(source).scheme in ("http", "https")
    folder = Path(source).expanduser()
    if not remote and not folder.is_dir():
        raise ModelError("no such folder", "Give the folder that holds plans.json and fold_0.", source)
    for name in (*_NEEDED, *_EITHER, "LICENSE"):
        file = staging / name
        file.parent.mkdir(exist_ok=True)
        if remote:
            try:
                told = progress(name) if progress else None
                download(f"{source.rstrip('/')}/{name}", file, progress=told, patience=patience)
            except NoModelError:  # one of those that may be absent
                if name in _NEEDED:
                    raise
        elif (folder / name).is_file():
            shutil.copyfile(folder / name, file)
    missing = [name for name in _NEEDED if not (staging / name).is_file()]
    if missing or not any((staging / name).is_file() for name in _EITHER):
        lacking = ", ".join(missing) or " and ".join(_EITHER)
        raise ModelError(f"{lacking} missing", "Give the publisher's own folder.", source)


def _check(folder: Path, checksum: str) -> None:
    """Refuse another checkpoint than the published one, and any that would run code."""
    file = folder / _CHECKPOINT
    if checksum and (found := sha256_of(file)) != checksum:
        what = f"the checkpoint is not the published one (sha256 {found[:16]}…, {checksum[:16]}… expected)"
        raise ModelError(what, "Fetch it again; of your own weights, give --promptable FOLDER.", str(file))
    content = load_tensors(file)
    try:
        configuration = str(content["init_args"]["configuration"])
    except (KeyError, TypeError) as error:
        raise ModelError("the checkpoint is not nnInteractive's", "Fetch it again.", str(file)) from error
    check_plans(read_json(folder / "plans.json"), configuration, folder / "plans.json")
