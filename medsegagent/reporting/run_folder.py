"""The folder that a run leaves behind: whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from medsegagent.errors import OutputError
from medsegagent.fusion.overlap import label_map, overlapping
from medsegagent.fusion.segmentation import Segmentation
from medsegagent.images.write import Label, write_label_map, write_mask
from medsegagent.reporting.colours import colours_of
from medsegagent.reporting.staging import PREFIX, RECORD, Staging, clear_stale, files_below, is_safe, locked
from medsegagent.reporting.written_files import files_of_run, list_files, record_of

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A context in which results are written.

    Raises:
        OutputError: For whatever the operating system refuses: a full disk, a quota, a folder that went away.
    """
    try:
        yield
    except OSError as error:
        what = f"the results cannot be written ({error.strerror or error})"
        where = next((part for part in (folder, *folder.parents) if part.name.startswith(PREFIX)), folder).parent
        raise OutputError(what, "Free some space, or choose another place with -o.", str(where)) from error


@contextmanager
def dispensable(what: str, folder: Path, notes: list[str]) -> Iterator[None]:
    """A context in which a picture or page is made: if it fails, what was computed is kept, and `notes` says so.

    Raises:
        OSError: If the disk is full or cannot be written, for then the rest cannot be written either.
    """
    before = set(files_below(folder))
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise
        for name in set(files_below(folder)) - before:
            (folder / name).unlink(missing_ok=True)
        reason = str(error).strip().partition("\n")[0][:200]
        notes.append(f"{what} could not be made ({type(error).__name__}: {reason}); the masks are not affected.")


class RunFolder:
    """A context in which a run's files are collected before they appear.

    `with RunFolder(path) as folder:` gives an empty temporary folder. On leaving without an exception it becomes
    `path`; on any exception, KeyboardInterrupt included, it is removed and `path` is as it was. A new `path` appears
    by one rename. Into an existing folder (empty, or an earlier run with `overwrite`) the files move one by one,
    `run.json` last, because a folder in use, such as a container's mount, cannot be renamed over.

    Of an earlier run, only the files go that its `run.json` lists; what else lies in the folder stays. If at the end
    something is in the way that was not there at the beginning, the results are put beside it, and `notes` says so.

    Attributes:
        place: Where the results are in the end.
        notes: What the user should know about that.
    """

    def __init__(self, path: Path, overwrite: bool = False, inputs: Sequence[Path] = ()) -> None:
        """Touch nothing yet.

        Args:
            path: The run folder.
            overwrite: Replace an earlier run.
            inputs: Files and folders that the run reads; where one of them would go, the run is refused.
        """
        self.place = Path(os.path.realpath(path)) if ".." in path.parts else path.absolute()
        self.notes: tuple[str, ...] = ()
        self._path = self.place
        self._overwrite = overwrite
        self._inputs = tuple(inputs)
        self._made: list[Path] = []
        self._staging: Staging | None = None
        self._earlier: bytes | None = None

    def __enter__(self) -> Path:
        """Check that the folder may be written, before any work is done.

        Raises:
            OutputError: If `path` is a file, holds anything (unless it is an earlier run and `overwrite` is set), is
                an earlier run of which a file is an input, or cannot be written.
        """
        try:
            self._make_parents(self._path.parent)
            with locked(self._path.parent):
                for folder in (self._path.parent, self._path):
                    clear_stale(folder)
                self._check()
                self._staging = Staging(self._path if self._path.is_dir() else self._path.parent)
        except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
            self._remove_parents()
            reason = (error.strerror if isinstance(error, OSError) else "") or error
            raise self._refusal(f"the folder cannot be written ({reason})", "Choose another with -o.") from error
        except BaseException:
            self._remove_parents()
            raise
        return self._staging.new

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish, or clean up."""
        assert self._staging is not None  # it was entered
        try:
            if kind is None:
                list_files(self._staging.new)
                with locked(self._path.parent):
                    self._publish(self._staging)
        except OSError as error:
            raise self._refusal(f"the results cannot be moved into place ({error.strerror})", "Try again.") from error
        finally:
            self._staging.remove()
            self._remove_parents()

    def _check(self) -> None:
        with suppress(FileNotFoundError):
            os.lstat(self._path)  # a name that no folder can have is an error here, and not after the work
        if self._path.is_symlink() and not self._path.exists():
            raise self._refusal("this is a link to nowhere", "Choose another with -o.")
        if not self._path.exists():
            return
        if not self._path.is_dir():
            raise self._refusal("this is a file, a folder is needed", "Choose another with -o.")
        if not (held := self._entries()):
            return
        if RECORD not in held:
            raise self._refusal("the folder holds other files, and no earlier run", "Choose another with -o.")
        if not self._overwrite:
            raise self._refusal("the folder holds an earlier run", "Choose another with -o, or give --overwrite.")
        self._earlier = record_of(self._path)
        for name in files_of_run(self._path):
            if any(_is_or_holds(given, self._path, self._path / name) for given in self._inputs):
                what = f"the earlier run's {name} is an input of this one, and would be replaced"
                raise self._refusal(what, "Choose another with -o, or move the input elsewhere.")

    def _entries(self) -> list[str]:
        return [entry.name for entry in self._path.iterdir() if not entry.name.startswith(PREFIX)]

    def _make_parents(self, parent: Path) -> None:
        missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self._made.append(folder)

    def _remove_parents(self) -> None:
        """Remove the folders made for nothing."""
        for folder in reversed(self._made):
            with suppress(OSError):  # something is in it
                folder.rmdir()

    def _publish(self, staging: Staging) -> None:
        if not os.path.lexists(self._path):
            os.rename(staging.new, self._path)
        elif (leaving := self._leaving(staging)) is None:
            self._publish_beside(staging)
        elif staging.folder.parent == self._path:
            staging.move_into(self._path, leaving)
        else:  # an empty folder that was made meanwhile
            os.rename(staging.new, self._path)

    def _leaving(self, staging: Staging) -> list[str] | None:
        """The files to replace; None if something is in the way."""
        if not self._path.is_dir() or (self._path.is_symlink() and staging.folder.parent != self._path):
            return None
        held = self._entries()
        if self._earlier is None:
            return None if held else []
        if RECORD not in held or record_of(self._path) != self._earlier:
            return None
        leaving = files_of_run(self._path)
        stays = set(files_below(self._path)) - set(leaving)
        for name in files_below(staging.new):
            way = [*(parent.as_posix() for parent in Path(name).parents), name]
            if stays & set(way) or (self._path / name).is_dir() or not is_safe(self._path, name):
                return None
        return leaving

    def _publish_beside(self, staging: Staging) -> None:
        for number in range(2, 1000):
            self.place = self._path.with_name(f"{self._path.name}-{number}")
            if not os.path.lexists(self.place):
                break
        try:
            os.rename(staging.new, self.place)
        except OSError:  # a container's mount has nothing beside it
            self.place = self._path / self.place.name
            os.rename(staging.new, self.place)
        self.notes = (f"{self._path} was filled by something else meanwhile; the results are in {self.place}.",)

    def _refusal(self, what: str, remedy: str) -> OutputError:
        return OutputError(what, remedy, str(self._path))


def _is_or_holds(given: Path, run: Path, file: Path) -> bool:
    """Whether a file of the run in `run` is an input, or lies in a folder within the run that is one."""
    try:
        if given.is_dir():
            real = given.resolve()
            return real.is_relative_to(run.resolve()) and file.resolve().is_relative_to(real)
        return given.exists() and file.exists() and os.path.samefile(given, file)
    except (OSError, RuntimeError):
        return False


def write_segmentation(segmentation: Segmentation, folder: Path, separate: bool) -> None:
    """Write the masks of a run.

    `segmentation.nii.gz` holds all structures, contained over containing, with `segmentation.json` beside it;
    `targets/ID.nii.gz` each whole mask, with `separate` or where it shares voxels with another;
    `agreement/ID.nii.gz` the percentage of yes-weight, uint8.
    """
    grid = segmentation.grid
    colours = colours_of([item.id for item in segmentation.structures])
    labels = [Label(item.value, item.id, item.name, colours[item.id]) for item in segmentation.structures]
    write_label_map(label_map(segmentation), grid, labels, folder / "segmentation.nii.gz")
    whole = {item.id for item in segmentation.structures} if separate else overlapping(segmentation)
    for item in segmentation.structures:
        (folder / "agreement").mkdir(exist_ok=True)
        write_mask(item.agreement, grid, folder / "agreement" / f"{item.id}.nii.gz")
        if item.id in whole:
            (folder / "targets").mkdir(exist_ok=True)
            write_mask(item.mask, grid, folder / "targets" / f"{item.id}.nii.gz")
