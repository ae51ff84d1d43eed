"""SAM and SAM 2 from random weights (their plumbing, no accuracy), and the session protocol over a real socket."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import pytest

from medsegagent.errors import ImageError, ModelError, PromptableError, PromptError, SessionLostError, UsageError
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.phantom import make_patient
from medsegagent.prompting.adapters.http import HttpPictures
from medsegagent.prompting.adapters.sam import Sam, _transformers
from medsegagent.prompting.adapters.slices import SliceBySlice
from medsegagent.prompting.adapters.walker import Walker
from medsegagent.prompting.catalogue import Wanted, open_model
from medsegagent.prompting.episode import same_mask
from medsegagent.prompting.pictures import mask_from_text, mask_to_text, to_png
from medsegagent.prompting.prompts import Box, Packed, Point, Scribble, Seed
from medsegagent.prompting.reward import overlaps
from medsegagent.prompting.server import make_app
from medsegagent.prompting.session import PromptSession

PATIENT = make_patient(4242, "CT")


def tried_transformers() -> ModuleType:
    try:
        return _transformers()
    except PromptableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = tried_transformers()
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
            "output_channels": 16,
            "window_size": 4,
            "num_pos_feats": 8,
            "mlp_dim": 32,
            "global_attn_indexes": [0],
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "tiny-sam"
    transformers.SamModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sam2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = tried_transformers()
    import torch

    torch.manual_seed(0)
    backbone = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "image_size": [128, 128],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "blocks_per_stage": [1, 1, 2, 1],
        "window_size_per_stage": [8, 4, 8, 4],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 32,
    }
    config = transformers.Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": 128, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    folder = tmp_path_factory.mktemp("weights") / "tiny-sam2"
    transformers.Sam2Model(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["sam_folder", "sam2_folder"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_sam_answers_clicks_boxes_and_seeds_in_any_plane(kind: str, plane: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    wanted = Wanted("sam", folder=folder, device="cpu", plane=plane)  # type: ignore[arg-type]
    with PromptSession(open_model(wanted)) as session:
        session.open(PATIENT.image, PATIENT.grid)
        session.apply(Seed(voxels=Packed.of(Boxed.of(PATIENT.mask("liver")))))
        assert same_mask(session.mask, Boxed.of(PATIENT.mask("liver")))
        session.apply(Point(voxel=(40, 40, 30)))
        after = session.mask
        session.apply(Point(voxel=(38, 41, 28), positive=False))
        assert session.undo()
        assert same_mask(session.mask, after)  # the same prompts give the same mask
        assert "knows" not in session.capabilities.model
        with pytest.raises(PromptError, match="does not take a box in space"):
            session.apply(Box(low=(10, 10, 10), high=(20, 20, 20)))
        with pytest.raises(PromptError, match="does not take a scribble"):
            session.apply(Scribble(voxels=Packed.of(Boxed.of(PATIENT.mask("liver")))))


def test_a_box_across_the_plane_is_refused_with_the_planes_name(sam_folder: Path) -> None:
    with PromptSession(SliceBySlice(Sam(sam_folder, device="cpu"), "coronal")) as session:
        session.open(np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32), plain_grid((9, 8, 7)))
        with pytest.raises(PromptError, match="one coronal slice, that is, be 1 voxel long along y"):
            session.apply(Box(low=(1, 1, 4), high=(5, 5, 5)))
        session.apply(Box(low=(1, 4, 1), high=(5, 5, 5)))


def plain_grid(shape: tuple[int, int, int]) -> Grid:
    return Grid(shape[::-1], (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "llama"}, "not of sam or sam2"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "code of its own"),
        ({"vision_config": {"num_hidden_layers": 10**6}}, "num_hidden_layers 1000000"),
        ({"vision_config": {"hidden_size": 48}}, "cannot be loaded|tensors are missing"),
    ],
)
def test_a_config_that_asks_for_too_much_is_refused(
    change: dict[str, object], complaint: str, sam_folder: Path, tmp_path: Path
) -> None:
    config = json.loads((sam_folder / "config.json").read_text())
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) and key in config else value
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((sam_folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=complaint):
        Sam(tmp_path, device="cpu")


def test_pickled_weights_and_missing_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptableError, match="not a folder of SAM weights"):
        Sam(tmp_path, device="cpu")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(PromptableError, match="pickled"):
        Sam(tmp_path, device="cpu")
    with pytest.raises(PromptableError, match="--promptable FOLDER"):
        open_model(Wanted("sam"))


def test_a_licence_that_restricts_is_asked_for(sam_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((sam_folder / name).read_bytes())
    (tmp_path / "LICENSE").write_text("CC BY-NC 4.0\nlong text")
    with pytest.raises(PromptableError, match=r"CC BY-NC 4\.0.*--accept-licence") as caught:
        Sam(tmp_path, device="cpu")
    assert caught.value.reason == "licence"
    assert Sam(tmp_path, device="cpu", licence_accepted=True).capabilities.licence == "CC BY-NC 4.0"


class Server:
    """uvicorn in a thread, on a port of its own."""

    def __init__(self, idle_s: float = 60.0, max_sessions: int = 300, port: int = 0) -> None:
        import uvicorn

        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            self.port = free.getsockname()[1]
        app = make_app(Walker, idle_s=idle_s, max_sessions=max_sessions)
        self._server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("uvicorn", reason="the extra [interactive] is not installed")
    pytest.importorskip("python_multipart", reason="the extra [interactive] is not installed")
    running = Server()
    yield running
    running.stop()


def picture() -> np.ndarray:
    rows, columns = np.ogrid[:60, :80]
    noise = np.random.default_rng(0).integers(0, 12, (60, 80))
    return (((rows - 30) ** 2 + (columns - 50) ** 2 < 14**2) * 150 + noise).astype(np.uint8)


def test_the_published_protocol_is_spoken_field_by_field(server: Server) -> None:
    image, truth = picture(), picture() > 100
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        assert client.get("/health").json() == {"model_type": "walker", "device": "cpu", "active_sessions": 0}
        made = client.post("/session/create", files={"image": ("a.png", to_png(image))}).json()
        assert made["image_size"] == [80, 60]
        name = made["session_id"]
        click = {"session_id": name, "point_x": 50, "point_y": 30, "is_positive": "true"}
        answer = client.post("/session/add_click", data=click).json()
        assert (answer["round_number"], answer["total_clicks"]) == (1, 1)
        assert overlaps(truth, mask_from_text(answer["masks"][0]))[1] > 0.8
        box = client.post("/session/add_bbox", data={"session_id": name, "bbox": "[34, 14, 67, 47]"}).json()
        assert (box["round_number"], box["total_clicks"]) == (2, 1)
        again = {"session_id": name, "points": "[[50, 30], [5, 5]]", "labels": "[1, 0]", "use_previous_mask": "false"}
        assert client.post("/session/segment", data=again).json()["total_clicks"] == 3
        assert client.get(f"/session/{name}/status").json()["round_number"] == 4
        assert client.get("/sessions").json()["sessions"] == [name]
        assert client.delete(f"/session/{name}").json()["remaining"] == 0
        assert client.get(f"/session/{name}/status").status_code == 404


def test_a_state_can_be_kept_by_the_client(server: Server) -> None:
    image, truth = picture(), picture() > 100
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        fields = {"point_coords": "[[50, 30]]", "point_labels": "[1]"}
        first = client.post("/predict_with_state", data=fields, files={"image": to_png(image)}).json()
        assert first["logits_shape"] == [1, 256, 256]
        state = {"previous_logits": first["logits"], "previous_logits_shape": json.dumps(first["logits_shape"])}
        second = client.post("/predict_with_state", data=state, files={"image": to_png(image)}).json()
        assert overlaps(mask_from_text(first["masks"][0]), mask_from_text(second["masks"][0]))[0] > 0.9
        assert overlaps(truth, mask_from_text(second["masks"][0]))[1] > 0.8


@pytest.mark.parametrize(
    ("route", "fields", "status", "said"),
    [
        ("/session/add_click", {"session_id": "none", "point_x": "1", "point_y": "1"}, 404, "no such session"),
        ("/session/add_click", {"point_x": "1", "point_y": "1"}, 400, "session_id is missing"),
        ("/predict", {"point_coords": "[[500, 1]]", "point_labels": "[1]"}, 400, "outside the image"),
        ("/predict", {"point_coords": "[[5, 1]]", "point_labels": "[]"}, 400, "differ in length"),
        ("/predict", {"point_coords": "[[true, 1]]", "point_labels": "[1]"}, 400, "not 2 numbers"),
        ("/predict", {"bbox": "[10, 10, 10, 20]"}, 400, "no volume"),
        ("/predict", {"bbox": "[1, 2"}, 400, "no JSON"),
        ("/predict", {"text": '["kidney"]'}, 400, "words are not taken"),
        ("/predict_with_state", {"previous_logits": "AAAA", "previous_logits_shape": "[9]"}, 400, "previous_logits"),
    ],
)
def test_a_bad_request_is_told_why(route: str, fields: dict[str, str], status: int, said: str, server: Server) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        answer = client.post(route, data=fields, files={"image": to_png(picture())})
        assert answer.status_code == status
        assert said in answer.json()["detail"]
        assert client.post("/predict", files={"image": b"GIF89a"}).status_code == 400
        assert client.get("/nowhere").status_code == 404


def test_the_client_works_on_volumes_and_gets_the_servers_mask(server: Server) -> None:
    truth = PATIENT.mask("bladder")
    k, j, i = (int(index) for index in np.median(np.argwhere(truth), axis=0))
    with PromptSession(open_model(Wanted("http", url=server.url))) as session:
        session.open(PATIENT.image, PATIENT.grid)
        session.apply(Point(voxel=(i, j, k)))
        assert session.mask.dense()[k, j, i]
        assert overlaps(truth, session.mask.dense())[1] > 0.3  # from the click's slice outward, by boxes alone
        assert session.capabilities.model.startswith("walker at")


def test_a_server_that_went_away_and_came_back_is_given_all_prompts_anew() -> None:
    pytest.importorskip("python_multipart", reason="the extra [interactive] is not installed")
    first = Server()
    session = PromptSession(SliceBySlice(HttpPictures(first.url)))
    session.open(PATIENT.image[28:29], plain_grid((1, *PATIENT.image.shape[1:])))
    session.apply(Point(voxel=(40, 40, 0)))
    first.stop()
    with pytest.raises(SessionLostError, match="prompts are kept"):
        session.apply(Point(voxel=(41, 40, 0)))
    assert len(session.prompts) == 1
    second = Server(port=first.port)
    update = session.apply(Point(voxel=(41, 40, 0)))
    assert update.mask.dense()[0, 40, 41]
    assert len(session.prompts) == 2
    second.stop()


def test_an_expired_session_is_opened_again_with_its_prompts() -> None:
    pytest.importorskip("python_multipart", reason="the extra [interactive] is not installed")
    running = Server(idle_s=0.3)
    session = PromptSession(SliceBySlice(HttpPictures(running.url)))
    session.open(PATIENT.image[28:29], plain_grid((1, *PATIENT.image.shape[1:])))
    session.apply(Point(voxel=(40, 40, 0)))
    time.sleep(0.4)
    assert session.apply(Point(voxel=(41, 40, 0))).reconnected
    running.stop()


def test_a_full_server_says_so() -> None:
    pytest.importorskip("python_multipart", reason="the extra [interactive] is not installed")
    running = Server(max_sessions=1)
    with httpx.Client(base_url=running.url, trust_env=False) as client:
        assert client.post("/session/create", files={"image": to_png(picture())}).status_code == 200
        refused = client.post("/session/create", files={"image": to_png(picture())})
        assert (refused.status_code, refused.json()["detail"].startswith("all 1 sessions")) == (503, True)
    running.stop()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "127.0.0.1:1", "http://[::1", "http://a:x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="address"):
        HttpPictures(url)


def test_images_go_to_another_machine_only_when_told_and_a_silent_one_is_named() -> None:
    with pytest.raises(UsageError, match=r"sent to radiology\.example\.org.*|--send-images"):
        HttpPictures("http://radiology.example.org:8265")
    with pytest.raises(PromptableError, match="cannot be reached") as caught:
        HttpPictures("http://127.0.0.1:9")
    assert caught.value.reason == "unreachable"


def test_a_mask_survives_the_wire_and_rubbish_does_not() -> None:
    mask = picture() > 100
    assert np.array_equal(mask_from_text(mask_to_text(mask)), mask)
    for text in ("%%%", base64.b64encode(b"not a picture").decode()):
        with pytest.raises(ImageError):
            mask_from_text(text)
