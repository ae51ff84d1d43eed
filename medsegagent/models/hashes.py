"""What each archive was when it was first installed: compared ever after, as most publishers give no checksum."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from medsegagent.errors import ModelError, OutputError
from medsegagent.models.own_store import ModelHome
from medsegagent.untrusted import open_regular, reason

_CHUNK = 2**20


def sha256_of(file: Path) -> str:
    """Hexadecimal digest of a file.

    Raises:
        ModelError: If it cannot be read, or is a pipe or device.
    """
    digest = hashlib.sha256()
    try:
        with open_regular(file) as data:
            while chunk := data.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError as error:
        raise ModelError("there is no such file", "Check the path.", str(file)) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read ({reason(error)})", "Check the path.", str(file)) from error
    return digest.hexdigest()


def check_archive(home: ModelHome, url: str, file: Path, published: str | None) -> str:
    """Compare a downloaded archive with its publisher's checksum and with what it was the first time.

    Nothing is recorded: what came may be the login page of a network. `pin` follows when it is installed.

    Args:
        home: The store.
        url: The publisher's address, whatever mirror the file came from.
        file: The archive.
        published: SHA-256 as the card gives it, or None.

    Returns:
        The archive's SHA-256.

    Raises:
        ModelError: If it differs from either.
    """
    digest = sha256_of(file)
    if published and digest != published.casefold():
        what = f"the archive's SHA-256 is {digest}, its card says {published}"
        raise ModelError(what, "It is damaged or not what its publisher made: do not use it.", url)
    record = home.folder / "hashes.json"
    known = read_object(record).get(url)
    if known is not None and (first := known.get("sha256") if isinstance(known, dict) else None) != digest:
        what = f"the archive's SHA-256 is {digest}, but it was {first} when first installed"
        remedy = f"If its publisher says that it was replaced, remove its entry from {record} and try again."
        raise ModelError(what, remedy, url)
    return digest


def pin(home: ModelHome, url: str, sha256: str) -> None:
    """Record what an archive was when a model out of it was first installed.

    Raises:
        OutputError: If the store cannot be written.
    """
    with home.lock("hashes"):
        record = home.folder / "hashes.json"
        known = read_object(record)
        if url not in known:
            write_object(record, known | {url: {"sha256": sha256}})


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object of the store's own; empty if the file does not exist.

    Raises:
        ModelError: If it is damaged.
    """
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"not readable ({error})", "Restore it, or remove it to start anew.", str(file)) from error
    if not isinstance(content, dict):
        raise ModelError("holds no JSON object", "Restore it, or remove it to start anew.", str(file))
    return content


def write_object(file: Path, content: dict[str, Any]) -> None:
    """Write JSON so that the file is either the old or the new one, whole.

    Raises:
        OutputError: If the disk is full or cannot be written.
    """
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_text(json.dumps(content, indent=2, sort_keys=True))
        new.replace(file)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise OutputError(f"cannot be written ({error.strerror})", "Make room and try again.", str(file)) from error
