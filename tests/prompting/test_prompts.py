from __future__ import annotations

import json
import zlib
from base64 import b64encode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsegagent.errors import PromptError
from medsegagent.images.boxed import Boxed
from medsegagent.prompting.prompts import Box, Packed, Point, Scribble, Seed, ball, check, read_prompt

SIZE = (10, 20, 30)


def packed(*shape: int, value: bool = True) -> Packed:
    return Packed.of(Boxed.of(np.full(shape, value)))


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        (Point(voxel=(10, 0, 0)), r"\(10, 0, 0\) is outside the image: the image has 10 x 20 x 30 voxels"),
        (Point(voxel=(0, -1, 0)), "outside"),
        (Box(low=(2, 2, 2), high=(5, 2, 5)), "has no volume"),
        (Box(low=(5, 2, 2), high=(2, 5, 5)), "has no volume"),
        (Box(low=(0, 0, 0), high=(11, 5, 5)), "leaves the image"),
        (Scribble(voxels=packed(10, 20, 30)), "drawn on 30 x 20 x 10 voxels"),
        (Scribble(voxels=packed(30, 20, 10, value=False)), "empty"),
        (Seed(voxels=packed(30, 20, 9)), "seed was drawn on 9 x 20 x 30"),
    ],
)
def test_what_does_not_lie_on_the_image_is_refused(prompt: Point | Box | Scribble | Seed, complaint: str) -> None:
    with pytest.raises(PromptError, match=complaint):
        check(prompt, SIZE)


def test_the_last_voxel_is_inside_and_a_boxs_high_end_may_be_the_size() -> None:
    check(Point(voxel=(9, 19, 29)), SIZE)
    check(Box(low=(0, 0, 0), high=SIZE), SIZE)
    check(Seed(voxels=packed(30, 20, 10, value=False)), SIZE)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"kind": "point"}',
        '{"kind": "point", "voxel": [1, 2]}',
        '{"kind": "point", "voxel": ["1", 2, 3]}',
        '{"kind": "point", "voxel": [1.5, 2, 3]}',
        '{"kind": "point", "voxel": [1, 2, 3], "colour": "red"}',
        '{"kind": "lasso", "voxel": [1, 2, 3]}',
        '{"kind": "point", "voxel": [1, 2, 99999999999999999999]}',
        "not json",
    ],
)
def test_json_that_is_no_prompt_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match="no prompt"):
        read_prompt(text)


def test_a_prompt_survives_json() -> None:
    for prompt in (
        Point(voxel=(1, 2, 3), positive=False),
        Box(low=(1, 2, 3), high=(4, 5, 6)),
        Scribble(voxels=packed(3, 4, 5)),
        Seed(voxels=packed(3, 4, 5)),
    ):
        assert read_prompt(prompt.model_dump_json()) == prompt


@given(st.integers(0, 2**32 - 1))
def test_a_mask_survives_packing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 9, 3)) < rng.random() ** 3
    unpacked = Packed.model_validate_json(Packed.of(Boxed.of(mask)).model_dump_json()).mask()
    assert np.array_equal(unpacked.dense(), mask)


def test_packed_bits_that_swell_or_fall_short_are_refused() -> None:
    whole = json.loads(packed(8, 8, 8).model_dump_json())
    for bits in (zlib.compress(bytes(10**7)), zlib.compress(b"1"), b"rubbish"):
        bad = Packed.model_validate_json(json.dumps(whole | {"bits": b64encode(bits).decode()}))
        with pytest.raises(PromptError, match="bits"):
            bad.mask()
    with pytest.raises(ValueError, match="outside its own volume"):
        Packed.model_validate_json(json.dumps(whole | {"low": [1, 0, 0]}))
    with pytest.raises(ValueError, match="more than can be handled"):
        Packed.model_validate_json(json.dumps(whole | {"shape": [10**5] * 3}))


def test_a_ball_is_round_in_mm_and_never_empty() -> None:
    small = ball((5, 5, 5), 0.1, (1, 1, 1), (11, 11, 11))
    assert small.count == 1
    flat = ball((5, 5, 5), 3.0, (1.0, 1.0, 10.0), (11, 11, 11))
    assert flat.inside.shape == (1, 7, 7)
    assert ball((0, 0, 0), 3.0, (1, 1, 1), (11, 11, 11)).inside.shape == (4, 4, 4)
