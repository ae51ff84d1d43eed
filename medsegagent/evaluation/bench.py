"""Read a selection bench: one JSON object per line, with a query and the labels that answer it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsegagent.errors import MedSegAgentError

Labels = Mapping[str, frozenset[int]]
"""Card name -> stored voxel values. A card without values is left out: it selects nothing."""

NO_KIND = "unlabelled"


@dataclass(frozen=True)
class Row:
    """One query and the answer it should get; no labels means that it must be refused."""

    id: str
    query: str
    expected: Labels
    kind: str = NO_KIND
    why: str = ""


@dataclass(frozen=True)
class Bench:
    """The rows of one bench file, in file order, ids unique."""

    file: Path
    sha256: str
    rows: tuple[Row, ...]


def read_bench(file: Path) -> Bench:
    """Read and check a bench.

    `query` and `expected_datasets` are needed, `id` (default: the line number), `kind` and `why` are not; other keys
    are ignored, as are blank lines. Values may be an int, a list, or a list with lists one level deep.

    Raises:
        MedSegAgentError: If the file cannot be read or a line is not such a row; names file, line and field.
    """
    try:
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MedSegAgentError(f"cannot be read ({error})", "Give a JSONL bench in UTF-8.", str(file)) from error
    rows = tuple(_rows(text, file))
    if not rows:
        raise MedSegAgentError("holds no rows", "Give a bench with one JSON object per line.", str(file))
    return Bench(file, hashlib.sha256(content).hexdigest(), rows)


def _rows(text: str, file: Path) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() would cut at U+2028 inside a query
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = _row(json.loads(line), number)
        except (ValueError, RecursionError) as error:
            remedy = 'A row looks like {"query": "...", "expected_datasets": {"CARD": [1, 2]}}.'
            raise MedSegAgentError(str(error), remedy, where) from error
        if row.id in seen:
            what = f"id {row.id!r} is taken by line {seen[row.id]}"
            raise MedSegAgentError(what, "Results are kept by id: make it unique.", where)
        seen[row.id] = number
        yield row


def _row(raw: Any, number: int) -> Row:
    if not isinstance(raw, dict):
        raise ValueError(f"is a JSON {type(raw).__name__}, not an object")
    query = raw.get("query")
    if not isinstance(query, str) or not query.strip():
        raise ValueError(f"query must be a text, got {query!r:.60}")
    if "expected_datasets" not in raw:
        raise ValueError("expected_datasets is missing; write {} for a query to be refused")
    texts = {key: raw.get(key, "") for key in ("kind", "why")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise ValueError(f"{key} must be a text, got {value!r:.60}")
    row_id = raw.get("id", number)
    if isinstance(row_id, bool) or not isinstance(row_id, (str, int)):
        raise ValueError(f"id must be a text or a number, got {row_id!r:.60}")
    expected = labels_from(raw["expected_datasets"], "expected_datasets")
    return Row(str(row_id), query, expected, texts["kind"] or NO_KIND, texts["why"])


def labels_from(raw: Any, field: str) -> dict[str, frozenset[int]]:
    """Turn `{card: values}`, as bench and result files spell it, into labels.

    Raises:
        ValueError: Naming what is not an integer or a list of them.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{field} must be an object of card: values, got {raw!r:.60}")
    labels = {str(card): frozenset(_values(value, f"{field}[{card!r}]")) for card, value in raw.items()}
    return {card: values for card, values in labels.items() if values}


def _values(raw: Any, field: str) -> Iterator[int]:
    items = raw if isinstance(raw, list) else [raw]
    for item in (inner for outer in items for inner in (outer if isinstance(outer, list) else [outer])):
        if isinstance(item, bool) or not isinstance(item, int):
            raise ValueError(f"{field} holds {item!r:.60}, which is no voxel value")
        yield item
