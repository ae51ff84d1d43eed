"""One vocabulary, asked by several threads at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from medsegagent.vocabulary import Sided, Vocabulary, load
from medsegagent.vocabulary.compile import compile_files, data_files

THREADS = 4
SIDES = ("", "left", "right")


@pytest.fixture
def switching_often() -> Iterator[None]:
    """Let threads take turns after a few instructions, as a busy machine would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching_often")
def test_four_threads_on_a_fresh_vocabulary_see_what_one_thread_sees() -> None:
    shipped = load()
    table = compile_files(data_files())
    groups = [id_ for id_ in shipped.ids if shipped.concept(id_).members]
    truth = {(id_, side): shipped.closure(id_, side) for id_ in groups for side in SIDES}
    for _ in range(5):
        fresh, start = Vocabulary(table), Barrier(THREADS)

        def ask(_: int, fresh: Vocabulary = fresh, start: Barrier = start) -> dict[tuple[str, str], frozenset[Sided]]:
            start.wait()
            return {key: fresh.closure(*key) for key in truth}

        with ThreadPoolExecutor(THREADS) as pool:
            assert all(seen == truth for seen in pool.map(ask, range(THREADS)))
