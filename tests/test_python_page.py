"""Every example of docs/python.md, in its order, as a reader would type it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"


def test_the_examples_run_in_their_order(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 6
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "Parser wanted: spleen" in done.stdout
    assert "no such file" in done.stdout
    assert (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "kidneys" / "run.json").exists()
