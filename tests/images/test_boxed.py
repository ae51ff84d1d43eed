from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medsegagent.images.boxed import NOWHERE, Box, Boxed, hull, shared

SHAPE = (4, 5, 6)
volumes = arrays(np.uint8, SHAPE, elements=st.integers(0, 2), fill=st.just(0))
masks = volumes.map(lambda volume: volume == 1)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Any box of the volume, empty ones too."""
    z, y, x = (sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in SHAPE)
    return slice(*z), slice(*y), slice(*x)


@given(volume=volumes, box=boxes())
def test_any_part_is_what_the_whole_volume_holds_there(volume: NDArray[np.uint8], box: Box) -> None:
    boxed = Boxed.of(volume)
    assert np.array_equal(boxed.dense(), volume)
    assert np.array_equal(boxed.at(box), volume[box])
    assert np.array_equal(boxed.cropped(box).dense(), volume[box])
    assert boxed.any() == bool(volume.any())
    assert boxed.count == np.count_nonzero(volume)


@given(volume=volumes)
def test_the_box_cannot_be_smaller(volume: NDArray[np.uint8]) -> None:
    boxed = Boxed.of(volume)
    if not volume.any():
        assert boxed.box == NOWHERE
        return
    for axis in range(3):
        faces = np.moveaxis(boxed.inside, axis, 0)
        assert faces[0].any()
        assert faces[-1].any()


@given(first=masks, second=masks)
def test_shared_voxels_and_the_common_box(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> None:
    one, other = Boxed.of(first), Boxed.of(second)
    assert shared(one, other) == np.count_nonzero(first & second)
    assert hull((one.box, other.box)) == Boxed.of(first | second).box


def test_what_it_was_cut_from_is_let_go() -> None:
    volume = np.zeros((50, 50, 50), dtype=bool)
    volume[3, 4, 5] = True
    assert Boxed.of(volume).inside.base is None
