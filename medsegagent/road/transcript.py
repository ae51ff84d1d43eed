"""The conversation as lines of JSON: one object per message, in order."""

from __future__ import annotations

import json
from pathlib import Path

from medsegagent.road.messages import Content


class Transcript:
    """Collects what was said, for the run folder and for `-v`."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Content]] = []

    def add(self, source: str, content: Content) -> None:
        """Append one message."""
        self.lines.append((source, content))

    def write(self, file: Path) -> None:
        """Write `{"source", "type", "summary", "content"}` per line."""
        with file.open("w", encoding="utf-8") as stream:
            for source, content in self.lines:
                line = {
                    "source": source,
                    "type": type(content).__name__,
                    "summary": content.summary,
                    "content": content.model_dump(mode="json"),
                }
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
