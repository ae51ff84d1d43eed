"""The vision policy against a real OpenAI-compatible server on loopback that answers as each test wants."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsegagent.errors import EndpointError, UsageError
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.phantom import make_patient
from medsegagent.prompting.adapters.walker import Walker
from medsegagent.prompting.episode import Episode
from medsegagent.prompting.policies.llm import SIZE, Llm, blacked_out, box_end, display_pixel
from medsegagent.prompting.policies.vision import VisionEndpoint
from medsegagent.prompting.prompts import Box, Point
from medsegagent.prompting.refine import refine

PATIENT = make_patient(4242, "CT")
Replies = list[dict[str, Any] | int]


class Scripted:
    """Answers one reply after the other, the last one again and again; keeps what it was asked."""

    def __init__(self, replies: Replies) -> None:
        self.replies, self.asked = list(replies), [dict[str, Any]()][:0]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                reply = outer.replies.pop(0) if len(outer.replies) > 1 else outer.replies[0]
                status = reply if isinstance(reply, int) else 200
                body = json.dumps({"choices": [{"message": reply}]} if status == 200 else {}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.endpoint = VisionEndpoint(
            "scripted", f"http://127.0.0.1:{self._http.server_port}/v1", key="sk-secret", send_images=True
        )

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def pictures(self, request: int) -> list[np.ndarray]:
        parts = [m["content"] for m in self.asked[request]["messages"] if isinstance(m["content"], list)]
        urls = [part["image_url"]["url"] for content in parts for part in content if part["type"] == "image_url"]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for url in urls]


@pytest.fixture
def scripted() -> Iterator[Callable[[Replies], Scripted]]:
    made: list[Scripted] = []

    def make(replies: Replies) -> Scripted:
        made.append(Scripted(replies))
        return made[-1]

    yield make
    for server in made:
        server.close()


def call(name: str, **arguments: object) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


def point(x: int, y: int, kind: str = "positive") -> dict[str, Any]:
    return call("add_point", point_2d=[x, y], point_type=kind)


STOP = call("stop_action")


def episode_of(server: Scripted, seed: Boxed[np.bool_] | None = None, array: np.ndarray | None = None) -> Episode:
    grid = PATIENT.grid
    if array is not None:
        grid = Grid(array.shape[::-1], (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    return refine(
        Walker(), Llm(server.endpoint), PATIENT.image if array is None else array, grid, target="the liver", seed=seed
    )


def picture(height: int = 60, width: int = 120) -> np.ndarray:
    """A single slice, twice as wide as high, with a bright disc at row 20, column 90."""
    rows, columns = np.ogrid[:height, :width]
    noise = np.random.default_rng(0).normal(0, 4, (height, width))
    return (((rows - 20) ** 2 + (columns - 90) ** 2 < 81) * 100.0 + noise).astype(np.float32)[None]


def test_coordinates_meet_pixels_at_both_ends() -> None:
    assert [display_pixel(value) for value in (0, 499, 500, 999)] == [0, 255, 256, 511]
    assert [box_end(value) for value in (0, 499, 999)] == [1, 256, 512]
    assert display_pixel(999, 2048) == 2046
    assert all(display_pixel(value) < box_end(value) for value in range(1000))


def test_a_click_on_a_wide_picture_lands_where_it_was_shown(scripted: Callable[[Replies], Scripted]) -> None:
    # The picture fills the square's width and its middle half: row 20 of 60 is at (20.5 / 120 + 1/4) of its height.
    server = scripted([point(int(90.5 / 120 * 1000), int((20.5 / 120 + 0.25) * 1000)), STOP])
    episode = episode_of(server, array=picture())
    assert episode.ended == "stopped"
    assert episode.turns[0].prompt == Point(voxel=(90, 20, 0))
    assert episode.mask.dense()[0, 20, 90]
    before, after = server.pictures(1)
    assert before.shape == (SIZE, SIZE, 3)
    assert not before[: SIZE // 4 - 1].any()  # the letterbox
    row, column = round(SIZE * (20.5 / 120 + 0.25)), round(SIZE * 90.5 / 120)
    assert after[row, column, 1] > after[row, column, 0] + 50  # green where the mask is
    assert np.ptp(before[row, column]) == 0


def test_a_box_is_half_open_in_voxels(scripted: Callable[[Replies], Scripted]) -> None:
    server = scripted([call("add_bbox", bbox_2d=[500, 250, 999, 749]), STOP])
    episode = episode_of(server, array=picture())
    assert episode.turns[0].prompt == Box(low=(60, 0, 0), high=(120, 60, 1))


def test_the_seeds_largest_slice_is_shown_first_and_another_can_be_looked_at(
    scripted: Callable[[Replies], Scripted],
) -> None:
    seed = Boxed.of(PATIENT.mask("liver"))
    server = scripted([call("view", plane="coronal", slice=40), point(500, 500), STOP])
    episode = episode_of(server, seed)
    assert (len(episode.prompted), episode.ended) == (1, "stopped")
    first, second = (request["messages"][1]["content"][0]["text"] for request in server.asked[:2])
    assert "axial slice" in first
    assert "coronal slice 40" in second
    assert "the liver" in first
    assert {tool["function"]["name"] for tool in server.asked[0]["tools"]} == {
        "add_bbox",
        "add_point",
        "stop_action",
        "view",
    }


def test_looking_is_free_but_not_for_ever(scripted: Callable[[Replies], Scripted]) -> None:
    server = scripted([call("view", plane="axial", slice=index) for index in range(9)])
    episode = episode_of(server, Boxed.of(PATIENT.mask("liver")))
    assert episode.ended == "invalid"
    assert "may be looked at" in episode.why or "no tool" in episode.why
    assert len(server.asked) < 7


def test_one_that_never_stops_is_stopped_after_five_turns(scripted: Callable[[Replies], Scripted]) -> None:
    server = scripted([point(300 + 20 * n, 500) for n in range(9)])
    episode = episode_of(server)
    assert (episode.ended, len(episode.turns)) == ("budget", 5)
    assert len(server.pictures(4)) == 5


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        ({"content": "The liver is the large organ on the left."}, "called no tool"),
        (point(1000, 5), "not between 0 and 999"),
        (point(500, 5, "maybe"), "point_type"),
        (call("add_bbox", bbox_2d=[500, 500, 400, 600]), "x1 < x2"),
        (call("add_bbox", bbox_2d=[1, 2, 3]), "bbox_2d"),
        (call("erase_disk"), "no tool 'erase_disk'"),
        ({"content": None, "tool_calls": point(1, 1)["tool_calls"] * 2}, "2 calls"),
        ({"content": "<tool_call>{oops}</tool_call>"}, "no tool ''"),
        (STOP, "no mask yet"),
    ],
)
def test_an_answer_that_cannot_be_used_is_asked_for_again_once(
    reply: dict[str, Any], complaint: str, scripted: Callable[[Replies], Scripted]
) -> None:
    server = scripted([reply, point(500, 500), STOP])
    episode = episode_of(server)
    assert (episode.ended, len(episode.turns)) == ("stopped", 1)
    assert complaint in server.asked[1]["messages"][-1]["content"]
    ended = episode_of(scripted([{"content": "no"}]))
    assert (ended.ended, ended.turns) == ("invalid", ())


def test_a_click_that_was_made_before_and_one_beside_the_image_are_refused(
    scripted: Callable[[Replies], Scripted],
) -> None:
    server = scripted([point(754, 420), point(754, 420), point(500, 100), STOP])
    episode = episode_of(server, array=picture())
    assert (episode.ended, len(episode.turns)) == ("invalid", 1)
    assert "made before" in server.asked[2]["messages"][-1]["content"]
    assert "black border" in episode.why


def test_calls_written_out_in_text_are_read_and_a_lost_quote_is_mended(
    scripted: Callable[[Replies], Scripted],
) -> None:
    text = (
        '<tool_call>{"name": "add_point", arguments": {"point_2d": [754, 420], "point_type": "positive"}}</tool_call>'
    )
    episode = episode_of(scripted([{"content": text}, STOP]), array=picture())
    assert episode.turns[0].prompt == Point(voxel=(90, 20, 0))


def test_an_endpoint_that_fails_ends_the_episode_with_what_was_reached(scripted: Callable[[Replies], Scripted]) -> None:
    episode = episode_of(scripted([point(754, 420), 500]), array=picture())
    assert (episode.ended, len(episode.turns)) == ("lost", 1)
    assert "status 500" in episode.why
    assert "sk-secret" not in episode.why
    with pytest.raises(EndpointError, match="no answer"):
        VisionEndpoint("m", "http://127.0.0.1:9/v1", send_images=True)([], [])


def test_pixels_go_only_where_that_was_agreed_and_without_their_corners() -> None:
    with pytest.raises(UsageError, match="--send-images"):
        VisionEndpoint("m", "http://127.0.0.1:9/v1")([], [])
    hidden = blacked_out(np.full((50, 100), 200, np.uint8))
    assert not hidden[:5, :16].any()
    assert not hidden[-5:, -16:].any()
    assert hidden[25].all()
    assert "sk" not in repr(VisionEndpoint("m", "http://h/v1", key="sk-1"))
