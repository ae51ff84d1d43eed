"""JSON files written in one step, for all rooms; `untrusted` reads them."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel


def write_json(file: Path, record: Any) -> None:
    """Write a record as JSON, whole or not at all: keys sorted, indent 2, NaN and infinities as null."""
    text = json.dumps(plain(record), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        partial.write_text(text, "utf-8", errors="replace")  # a file's name may be no text
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """Turn models, arrays' scalars, paths and tuples into what JSON knows."""
    match value:
        case BaseModel():
            return plain(value.model_dump())
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case np.generic():
            return plain(value.item())
        case float():
            return value if math.isfinite(value) else None
        case Path():
            return value.as_posix()
        case _:
            return value
