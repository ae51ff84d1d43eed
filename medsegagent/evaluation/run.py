"""Evaluate model selection over a bench: ask, record, score, and write what came out."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from time import perf_counter

from medsegagent.cards.library import Library
from medsegagent.errors import OutputError
from medsegagent.evaluation import records
from medsegagent.evaluation.bench import Bench, Row, read_bench
from medsegagent.evaluation.patterns import Answerer, answerer
from medsegagent.evaluation.records import Header, Record
from medsegagent.evaluation.results import (
    Evaluation,
    as_json,
    evaluation,
    read_answers,
    spelled,
    summary_lines,
    verdict,
)


def evaluate_selection(
    bench_file: Path,
    *,
    pattern: str = "C2F",
    model: str = "rules",
    tag: str = "",
    cards: str | Path = "benchmark",
    answer_of: Callable[[Library], Answerer] | None = None,
    workers: int = 1,
    folder: Path = Path("results"),
    resume: bool = False,
    log: bool = False,
    save: bool = True,
    progress: bool = False,
) -> Evaluation:
    """Ask every query of a bench and score the answers.

    Args:
        bench_file: JSONL bench.
        pattern: How queries are answered, a name in `medsegagent.evaluation.patterns.PATTERNS`.
        model: What answers them; "rules" needs no LLM.
        tag: Of the LLM configuration; kept in the record.
        cards: Library to select from: "benchmark", "zoo", "all", or a folder of cards.
        answer_of: Makes the answerer, for patterns that live above this room; None looks `pattern` up here.
        workers: Queries asked at the same time.
        folder: Where the record (`.jsonl`), results (`.json`), page (`.html`) and log go, under the stem
            `{pattern}_{bench stem}_{model}_{YYYYmmdd_HHMMSS}`.
        resume: Go on with the newest record of this pattern, bench and model, if there is one; failed queries are
            asked again.
        log: Also write a `.log` with every query's verdict.
        save: False leaves no results and no record behind once the run is complete.
        progress: Show a progress bar on stderr.

    Raises:
        UsageError: If the pattern or model is unknown.
        CardError: If the library cannot be loaded.
        OutputError: If a result cannot be written, or the record to resume was made under other conditions.
        MedSegAgentError: If the bench cannot be read.
    """
    bench = read_bench(bench_file)
    library = Library.load(cards)
    answer = answer_of(library) if answer_of else answerer(pattern, model, library)
    header = Header(
        bench_sha256=bench.sha256,
        pattern=pattern,
        model=model,
        tag=tag,
        library_sha256=library_sha256(library),
        code_version=code_version(),
    )
    return run_bench(
        bench,
        answer,
        header,
        library,
        workers=workers,
        folder=folder,
        resume=resume,
        log=log,
        save=save,
        progress=progress,
    )


def run_bench(
    bench: Bench,
    answer: Answerer,
    header: Header,
    library: Library,
    *,
    workers: int = 1,
    folder: Path,
    resume: bool = False,
    log: bool = False,
    save: bool = True,
    progress: bool = False,
) -> Evaluation:
    """Ask every query of a bench with any answerer; the engine behind `evaluate_selection`, where the options are.

    Args:
        bench: The queries.
        answer: Called once per query, by several threads if there are several workers; what it raises is recorded and
            counts as a wrong answer.
        header: What the answers depend on; a run goes on only under an equal header.
        library: The cards that the answers are about, for the page.
        workers: As in `evaluate_selection`, like the options that follow.
        folder: See there.
        resume: See there.
        log: See there.
        save: See there.
        progress: See there.

    Raises:
        OutputError: If a result cannot be written, or the record to resume was made under other conditions.
    """
    file, done = _open(folder, _stem(header.pattern, bench.file, header.model), header, resume)
    todo = [row for row in bench.rows if row.id not in done or done[row.id].error is not None]
    for record in _watched(_asked(todo, answer, workers), len(todo), progress):
        done[record.id] = record
        records.append(file, record)
    return _write(evaluation(bench, header, done, {}), file, library, log=log, save=save)


def recompute_metrics(bench_file: Path, answers_file: Path) -> Evaluation:
    """Score answers again without asking, because a bench row or a metric was corrected.

    Args:
        bench_file: The bench. A query that has changed since counts as not answered.
        answers_file: A run's record (`.jsonl`) or results (`.json`), or a result file of the published system.

    Raises:
        OutputError: If the answers cannot be read.
        MedSegAgentError: If the bench cannot be read.
    """
    bench = read_bench(bench_file)
    if answers_file.suffix == ".jsonl":
        header, found = records.read(answers_file)
    else:
        header, found = read_answers(answers_file, bench)
    queries = {row.id: row.query for row in bench.rows}
    return evaluation(bench, header, {i: record for i, record in found.items() if queries.get(i) == record.query}, {})


def ask(row: Row, answer: Answerer) -> Record:
    """Ask one query and time it; whatever it raises becomes the record's error, not the run's end."""
    start = perf_counter()
    try:
        got = answer(row.query)
        return Record(
            id=row.id,
            query=row.query,
            labels={card: sorted(values) for card, values in got.labels.items()},
            seconds=perf_counter() - start,
            calls=got.calls,
            prompt_tokens=got.prompt_tokens,
            completion_tokens=got.completion_tokens,
            explanation=got.explanation,
        )
    except Exception as error:
        seconds = perf_counter() - start
        return Record(id=row.id, query=row.query, seconds=seconds, error=f"{type(error).__name__}: {error}")


def library_sha256(library: Library) -> str:
    """Digest of what the cards say; file names and layout do not matter."""
    digest = hashlib.sha256()
    for card in sorted(library, key=lambda card: card.name):
        digest.update(card.model_dump_json().encode())
    return digest.hexdigest()


def code_version() -> str:
    """Package version, and a digest of code, vocabulary and prompts: no edit between two sessions goes unnoticed."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*")):
        if file.suffix in {".py", ".yaml", ".toml", ".csv", ".md"}:
            digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    try:
        version = metadata.version("medsegagent")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return f"{version}, {digest.hexdigest()[:16]}"


def _stem(pattern: str, bench_file: Path, model: str) -> str:
    return "_".join(re.sub(r"[^\w.+-]", "-", part) for part in (pattern, bench_file.stem, model.rpartition("/")[2]))


def _open(folder: Path, stem: str, header: Header, resume: bool) -> tuple[Path, dict[str, Record]]:
    if resume:
        ours = re.compile(re.escape(stem) + r"_\d{8}_\d{6}(_\d+)?\.jsonl")
        found = [file for file in folder.glob("*.jsonl") if ours.fullmatch(file.name)]
        if found:
            newest = max(found, key=lambda file: (file.stat().st_mtime_ns, file.name))
            return newest, records.reopen(newest, header)
    stamp = f"{stem}_{datetime.now():%Y%m%d_%H%M%S}"
    number = 1
    while True:  # two runs may start within one second
        file = folder / f"{stamp}{f'_{number}' if number > 1 else ''}.jsonl"
        try:
            records.create(file, header)
        except FileExistsError:
            number += 1
        else:
            return file, {}


def _asked(rows: Sequence[Row], answer: Answerer, workers: int) -> Iterator[Record]:
    """The records, as they come in."""
    if workers == 1:
        yield from (ask(row, answer) for row in rows)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(ask, row, answer) for row in rows]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C only the queries in flight are waited for


def _watched(found: Iterator[Record], total: int, progress: bool) -> Iterator[Record]:
    if not progress:
        yield from found
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(found, "Evaluating", total=total, console=Console(stderr=True))


def _write(found: Evaluation, record_file: Path, library: Library, *, log: bool, save: bool) -> Evaluation:
    from medsegagent.evaluation.page import html_page

    texts = {}
    if log:
        texts["log"] = _log_text(found)
    if save:
        texts["json"] = json.dumps(as_json(found), indent=1) + "\n"
        texts["html"] = html_page(found, library)
    files = {kind: record_file.with_suffix(f".{kind}") for kind in texts}
    for kind, file in files.items():
        _replace(file, texts[kind])
    if save:
        files["record"] = record_file
    else:
        record_file.unlink(missing_ok=True)
    return replace(found, files=files)


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(part, file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot be written ({error})", "Choose another folder.", str(file)) from error


def _log_text(found: Evaluation) -> str:
    lines = []
    for number, item in enumerate(found.rows, start=1):
        got = item.record.labels if item.record else {}
        lines += [
            f"[{number}] {item.row.id} {item.row.query!r}",
            f"[{number}] {'Correct!' if item.score.all_found else 'Wrong! ' + verdict(item)}",
            f"[{number}] expected: {spelled({c: sorted(v) for c, v in item.row.expected.items()}) or '{}'}",
            f"[{number}] answered: {spelled(got) or '{}'}",
        ]
        if item.record and item.record.explanation:
            lines.append(f"[{number}] {item.record.explanation}")
    return "\n".join([*lines, *(f"[Summary] {line}" for line in summary_lines(found)), ""])
