"""What an evaluation found: its figures, as text lines, as JSON, and read back from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medsegagent.errors import OutputError
from medsegagent.evaluation.bench import Bench, Row, labels_from
from medsegagent.evaluation.metrics import Accuracy, RowScore, accuracy, difference, percentile, score
from medsegagent.evaluation.records import Header, Record


@dataclass(frozen=True)
class Cost:
    """Time and LLM use of a run. Seconds are per query; None if no query was timed."""

    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    total_s: float
    calls: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Scored:
    """One row of the bench, its record (None: never asked) and its score."""

    row: Row
    record: Record | None
    score: RowScore


@dataclass(frozen=True)
class Evaluation:
    """A run's rows and figures, and the files that hold them (`record`, `json`, `html`, `log`)."""

    bench: Bench
    header: Header | None
    """None for answers from a foreign result file."""
    rows: tuple[Scored, ...]
    accuracy: Accuracy
    cost: Cost
    files: Mapping[str, Path]

    @property
    def failures(self) -> tuple[Scored, ...]:
        """The rows that are not all-found."""
        return tuple(item for item in self.rows if not item.score.all_found)


def evaluation(
    bench: Bench, header: Header | None, found: Mapping[str, Record], files: Mapping[str, Path]
) -> Evaluation:
    """Score the records of a run; a query without a record counts as failed."""
    rows = []
    for row in bench.rows:
        record = found.get(row.id)
        answered = record.labels if record is not None and record.error is None else None
        rows.append(Scored(row, record, score(row.expected, answered)))
    asked = [item.record for item in rows if item.record is not None]
    figures = accuracy([(item.row.kind, item.score) for item in rows])
    return Evaluation(bench, header, tuple(rows), figures, _cost(asked), dict(files))


def _cost(asked: Sequence[Record]) -> Cost:
    times = [record.seconds for record in asked if record.seconds is not None]
    return Cost(
        p50_s=percentile(times, 50) if times else None,
        p90_s=percentile(times, 90) if times else None,
        p99_s=percentile(times, 99) if times else None,
        total_s=sum(times),
        calls=sum(record.calls for record in asked),
        prompt_tokens=sum(record.prompt_tokens for record in asked),
        completion_tokens=sum(record.completion_tokens for record in asked),
    )


def summary_lines(found: Evaluation) -> list[str]:
    """The figures as the field prints them, sum / queries, with the legacy count of empty answers beside."""
    figures, cost, n = found.accuracy, found.cost, found.accuracy.queries
    lines = []
    for name, key in (("Dataset hit rate", "hit_rate"), ("All found", "all_found"), ("Any found", "any_found")):
        now, legacy = getattr(figures.rates, key), getattr(figures.legacy, key)
        lines.append(f"{name}: {now * n:.2f} / {n} ({now:.2%}); legacy (empty scores 0): {legacy * n:.2f} / {n}")
    for name, item in (("micro", figures.micro), ("macro", figures.macro)):
        lines.append(f"Labels, {name}: precision {item.precision:.4f}, recall {item.recall:.4f}, F1 {item.f1:.4f}")
    refusals = figures.refusals
    lines.append(f"Correct refusals: {refusals.correct} / {refusals.negatives}; wrong refusals: {refusals.wrong}")
    if cost.p50_s is not None and cost.p90_s is not None and cost.p99_s is not None:
        lines.append(
            f"Latency per query: p50 {cost.p50_s * 1000:.2f} ms, p90 {cost.p90_s * 1000:.2f} ms, "
            f"p99 {cost.p99_s * 1000:.2f} ms; all queries {cost.total_s:.2f} s"
        )
    lines.append(f"LLM: {cost.calls} calls, {cost.prompt_tokens} prompt and {cost.completion_tokens} completion tokens")
    lines.append(f"Errors and missing answers: {figures.failed}")
    return lines


def verdict(item: Scored) -> str:
    """Why a row is wrong, in one line; empty if it is right."""
    if item.score.all_found:
        return ""
    if item.record is None:
        return "not answered"
    if item.record.error is not None:
        return f"error: {item.record.error}"
    missing, extra = difference(item.row.expected, item.record.labels)
    return "; ".join(f"{name} {spelled(labels)}" for name, labels in (("missing", missing), ("extra", extra)) if labels)


def spelled(labels: Mapping[str, Sequence[int]]) -> str:
    """Labels for people: `KiTS23 [1], LiTS [1, 2]`."""
    return ", ".join(f"{card} {list(values)}" for card, values in labels.items())


def as_json(found: Evaluation) -> dict[str, Any]:
    """The whole evaluation as JSON-ready values."""
    return {
        "header": found.header.model_dump() if found.header else None,
        "bench": found.bench.file.name,
        "accuracy": asdict(found.accuracy),
        "cost": asdict(found.cost),
        "rows": [_row_json(item) for item in found.rows],
    }


def _row_json(item: Scored) -> dict[str, Any]:
    record = item.record.model_dump(exclude={"id", "query"}) if item.record is not None else {"labels": None}
    return {
        "id": item.row.id,
        "kind": item.row.kind,
        "query": item.row.query,
        "expected_datasets": {card: sorted(values) for card, values in item.row.expected.items()},
        "hit_rate": item.score.hit_rate,
        "all_found": item.score.all_found,
        "verdict": verdict(item),
        "record": record,
    }


def read_answers(file: Path, bench: Bench) -> tuple[Header | None, dict[str, Record]]:
    """Read the answers out of a result file: ours, or the published system's.

    The latter maps line numbers "1", "2", ... to `{card: values}`, bare or under "reply" (and "answer" below that).

    Raises:
        OutputError: If it is neither.
    """
    try:
        raw = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"is not a readable JSON file ({error})", "Give a results file.", str(file)) from error
    try:
        if isinstance(raw, dict) and "rows" in raw:
            return _read_ours(raw)
        if isinstance(raw, dict) and raw and all(str(key).isdecimal() for key in raw):
            return None, {row.id: _read_foreign(row, raw[key]) for key, row in _numbered(bench) if key in raw}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"is not a results file ({error})", "Give a run's .jsonl or .json.", str(file)) from error
    raise OutputError("is not a results file", "Give a run's .jsonl or .json.", str(file))


def _read_ours(raw: dict[str, Any]) -> tuple[Header | None, dict[str, Record]]:
    asked = [row for row in raw["rows"] if row["record"]["labels"] is not None]
    records = [Record.model_validate({"id": row["id"], "query": row["query"], **row["record"]}) for row in asked]
    return raw["header"] and Header.model_validate(raw["header"]), {record.id: record for record in records}


def _numbered(bench: Bench) -> list[tuple[str, Row]]:
    return [(str(number), row) for number, row in enumerate(bench.rows, start=1)]


def _read_foreign(row: Row, raw: Any) -> Record:
    for key in ("reply", "answer"):
        if isinstance(raw, dict) and isinstance(raw.get(key), dict):
            raw = raw[key]
    try:
        labels = {card: sorted(values) for card, values in labels_from(raw, "answer").items()}
    except ValueError as error:  # an unusable answer is a wrong answer, not an unusable file
        return Record(id=row.id, query=row.query, error=str(error))
    return Record(id=row.id, query=row.query, labels=labels)
