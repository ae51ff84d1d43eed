"""What outlives a case: cards, installed models, engines with their loaded networks, the device."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from medsegagent.cards.library import Library
from medsegagent.engines import Engines, shipped_engines
from medsegagent.engines.installed import find_installed
from medsegagent.models.store import Store
from medsegagent.planning.choice import Choice


@dataclass(frozen=True)
class Resources:
    """Shared by all runs, from any thread.

    Attributes:
        library: The cards.
        library_name: What the user called them; a folder in full; None if they were given as an object.
        store: What is installed.
        engines: Who runs it.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        offers_installs: Whether models installed by command would be found.
    """

    library: Library
    library_name: str | None
    store: Store
    engines: Engines
    device: str
    offers_installs: bool
    _device_is_free: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def lent_device(self, stop: threading.Event) -> Iterator[None]:
        """The device and the networks on it, for one run at a time.

        Raises:
            KeyboardInterrupt: If the run is stopped while it waits.
        """
        while not self._device_is_free.acquire(timeout=0.1):
            if stop.is_set():
                raise KeyboardInterrupt
        try:
            yield
        finally:
            self._device_is_free.release()

    def check_choice(self, choice: Choice) -> None:
        """Refuse names that mean no model, installed or not.

        Raises:
            UsageError: If one does.
        """
        public = {(entry.id, card.name) for card in self.library for entry in card.models}
        choice.check(public | {(model.id, model.card) for model in self.store.models})


def find_resources(
    library: Library | str | Path = "all",
    models_dir: Path | str | None = None,
    *,
    vocabulary: Sequence[Path | str] = (),
    device: str = "auto",
    engines: Engines | None = None,
    keep_bytes: int = 0,
) -> Resources:
    """Load the cards and find their models.

    Args:
        library: Cards to choose from, see `Library.load`.
        models_dir: nnU-Net results folder; default the environment variable `nnUNet_results` and the model store.
        vocabulary: YAML files with a site's own terms.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        engines: Who runs models; default: those of the package.
        keep_bytes: How much of the models stays in memory from run to run; the last one loaded always does.

    Raises:
        CardError: If the library cannot be loaded.
        VocabularyError: If a vocabulary file cannot be used.
    """
    cards = library if isinstance(library, Library) else Library.load(library, vocabulary)
    known = engines or shipped_engines(keep_bytes)
    return Resources(
        library=cards,
        library_name=cards.name or None,
        store=find_installed(cards, Path(models_dir) if models_dir else None, known),
        engines=known,
        device=device,
        offers_installs=models_dir is None,
    )
