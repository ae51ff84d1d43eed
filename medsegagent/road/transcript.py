"""The conversation as lines of JSON: one object per message, in order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from medsegagent.road.messages import Content

TRANSCRIPT = "transcript.jsonl"


def write_transcript(file: Path, said: Iterable[tuple[str, Content]]) -> None:
    """Write `{"source", "type", "summary", "content"}` per line."""
    with file.open("w", encoding="utf-8", errors="replace") as stream:
        for source, content in said:
            line = {
                "source": source,
                "type": type(content).__name__,
                "summary": content.summary,
                "content": content.model_dump(mode="json"),
            }
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
