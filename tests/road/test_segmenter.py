"""The front door: one `Segmenter`, many requests, from wherever they come."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

import medsegagent
from medsegagent import Case, Grid, Options, Progress, Result, Said, Segmenter, volume_of
from medsegagent.errors import (
    ArgumentTypeError,
    ImageError,
    MedSegAgentError,
    MissingFileError,
    NoMatchError,
    OutputError,
    UsageError,
)
from medsegagent.phantom import CARDS, MODELS

REQUESTS = ("the spleen in this CT", "liver and spleen in this CT", "both kidneys in this CT")


@pytest.fixture(scope="module")
def team() -> Segmenter:
    return Segmenter(CARDS, models_dir=MODELS, device="cpu")


@pytest.fixture(scope="module")
def ct_file(ct_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the patient that a model sees in one patch, with spleen, liver and kidneys."""
    file = tmp_path_factory.mktemp("small") / "ct.nii.gz"
    image = SimpleITK.ReadImage(str(ct_file))
    size = [min(voxels, most) for voxels, most in zip(image.GetSize(), (60, 60, 28), strict=True)]
    start = [(voxels - own) // 2 for voxels, own in zip(image.GetSize(), size, strict=True)]
    SimpleITK.WriteImage(SimpleITK.RegionOfInterest(image, size, start), str(file))
    return file


@pytest.fixture(scope="module")
def spleen(team: Segmenter, ct_file: Path) -> Result:
    return team.segment("the spleen in this CT", ct_file)


class TestResults:
    def test_nothing_is_written_where_no_folder_is_named(
        self, team: Segmenter, ct_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = team.segment("the spleen in this CT", ct_file)
        assert list(tmp_path.iterdir()) == []
        assert (result.folder, result.files) == (None, ())
        assert result.masks["spleen"].any()

    def test_saving_writes_what_segment_would_have_written(
        self, team: Segmenter, spleen: Result, ct_file: Path, tmp_path: Path
    ) -> None:
        spleen.save(tmp_path / "saved")
        written = team.segment("the spleen in this CT", ct_file, tmp_path / "written")
        names = [sorted(file.name for file in (tmp_path / name).rglob("*")) for name in ("saved", "written")]
        assert names[0] == names[1]
        label_maps = [(tmp_path / name / "segmentation.nii.gz").read_bytes() for name in ("saved", "written")]
        assert label_maps[0] == label_maps[1]
        types = [
            [json.loads(line)["type"] for line in (tmp_path / name / "transcript.jsonl").read_text().splitlines()]
            for name in ("saved", "written")
        ]
        assert types[0] == types[1]
        assert set(written.files) == {file for file in (tmp_path / "written").rglob("*") if file.is_file()}

    def test_a_mask_is_an_array_and_an_image_in_both_libraries(self, spleen: Result, ct_file: Path) -> None:
        mask = spleen["spleen"]
        source = SimpleITK.ReadImage(str(ct_file))
        image = mask.to_sitk()
        assert image.GetDirection() == pytest.approx(source.GetDirection())
        assert image.GetOrigin() == pytest.approx(source.GetOrigin())
        assert np.array_equal(SimpleITK.GetArrayFromImage(image).astype(bool), spleen.masks["spleen"])
        other = mask.to_nibabel()
        assert np.allclose(other.affine, nibabel.load(ct_file).affine, atol=1e-4)
        assert np.array_equal(np.asarray(other.dataobj).astype(bool).transpose(), mask.array)

    def test_it_looks_like_what_it_is(self, spleen: Result) -> None:
        assert "spleen" in repr(spleen)
        assert len(repr(spleen)) < 200
        page = spleen._repr_html_()
        assert "data:image/png;base64," in page
        assert "Research use only" in page

    def test_a_structure_that_is_not_there_is_named_with_those_that_are(self, spleen: Result) -> None:
        with pytest.raises(KeyError, match="holds spleen"):
            spleen["pancreas"]

    def test_a_dry_run_has_a_plan_and_nothing_to_save(self, team: Segmenter, ct_file: Path, tmp_path: Path) -> None:
        result = team.segment("the spleen in this CT", ct_file, options=Options(dry_run=True))
        assert result.plan.models
        assert not result.masks
        with pytest.raises(UsageError, match="dry run"):
            result.save(tmp_path / "out")


class TestManyRequests:
    def test_two_requests_never_see_each_others_state(self, team: Segmenter, ct_file: Path, tmp_path: Path) -> None:
        first = team.segment(REQUESTS[0], ct_file, tmp_path / "a")
        second = team.segment("the liver in this CT", ct_file, tmp_path / "b")
        assert [item.id for item in first.structures] == ["spleen"]
        assert [item.id for item in second.structures] == ["liver"]
        record = json.loads((tmp_path / "b" / "run.json").read_text())
        assert record["asked"]["instruction"] == "the liver in this CT"
        assert record["failed"] == []

    def test_eight_threads_get_what_one_gets(self, team: Segmenter, ct_file: Path) -> None:
        case, one = team.open(ct_file), Options(max_models=1)
        alone = {text: team.segment(text, case, options=one) for text in REQUESTS}

        def work(number: int) -> list[tuple[str, Result]]:
            texts = [REQUESTS[(number + turn) % len(REQUESTS)] for turn in range(5)]
            return [(text, team.segment(text, case, options=one)) for text in texts]

        with ThreadPoolExecutor(8) as pool:
            done = [pair for pairs in pool.map(work, range(8)) for pair in pairs]
        assert len(done) == 40
        for text, result in done:
            assert result.structures == alone[text].structures
            assert all(np.array_equal(result.masks[name], alone[text].masks[name]) for name in alone[text].masks)

    def test_a_case_is_opened_once_for_several_requests(self, team: Segmenter, ct_file: Path) -> None:
        case = team.open(ct_file)
        assert isinstance(case, Case)
        assert team.segment(REQUESTS[0], case).record is not None

    def test_an_instruction_is_parsed_once_and_labels_bound_once(
        self, ct_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counted: dict[str, int] = {}

        def counting(module: str, name: str) -> None:
            home = sys.modules[module]
            real = getattr(home, name)

            def counted_call(*arguments: object, **named: object) -> object:
                counted[name] = counted.get(name, 0) + 1
                return real(*arguments, **named)

            monkeypatch.setattr(home, name, counted_call)

        team = Segmenter(CARDS, models_dir=MODELS, device="cpu")
        counting("medsegagent.road.run", "parse")
        counting("medsegagent.matching.modality", "by_modality")
        counting("medsegagent.matching.label", "by_label")
        counting("medsegagent.cards.library", "bind")
        team.segment("the spleen in this CT", ct_file, tmp_path / "out")
        assert counted == {"parse": 1, "by_modality": 1, "by_label": 1, "bind": 3}
        team.segment("the spleen in this CT", ct_file, tmp_path / "again")
        assert counted == {"parse": 2, "by_modality": 2, "by_label": 2, "bind": 3}


class TestWhereverItIsCalled:
    def test_inside_a_running_loop(self, team: Segmenter, ct_file: Path, spleen: Result) -> None:
        async def main() -> tuple[Result, Result]:
            return team.segment(REQUESTS[0], ct_file), await team.asegment(REQUESTS[0], ct_file)

        for result in asyncio.run(main()):
            assert result.structures == spleen.structures

    def test_two_at_once_in_one_loop(self, team: Segmenter, ct_file: Path) -> None:
        async def main() -> list[Result]:
            return await asyncio.gather(*(team.asegment(text, ct_file) for text in REQUESTS[:2]))

        first, second = asyncio.run(main())
        assert [item.id for item in first.structures] == ["spleen"]
        assert {item.id for item in second.structures} == {"spleen", "liver"}

    def test_inside_a_jupyter_kernel(self, ct_file: Path, tmp_path: Path) -> None:
        nbformat = pytest.importorskip("nbformat", reason="the extra [test] brings it")
        client = pytest.importorskip("nbclient", reason="the extra [test] brings it")
        code = (
            "import medsegagent\n"
            "from medsegagent.phantom import CARDS, MODELS\n"
            f"medsegagent.segment('the spleen in this CT', {str(ct_file)!r}, library=CARDS, models_dir=MODELS)"
        )
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
        (output,) = [item for item in notebook.cells[0].outputs if item.output_type == "execute_result"]
        assert "data:image/png;base64," in output.data["text/html"]
        assert "spleen" in output.data["text/plain"]

    def test_cancelling_ends_the_run_and_leaves_nothing(self, team: Segmenter, ct_file: Path, tmp_path: Path) -> None:
        async def main() -> None:
            seen = asyncio.Event()
            loop = asyncio.get_running_loop()

            def listen(event: object) -> None:
                if isinstance(event, Progress):
                    loop.call_soon_threadsafe(seen.set)

            work = asyncio.create_task(team.asegment(REQUESTS[1], ct_file, tmp_path / "out", on_event=listen))
            await seen.wait()
            work.cancel()
            await work

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main())
        assert list(tmp_path.iterdir()) == []
        assert team.segment(REQUESTS[0], ct_file).structures, "the device is free again"

    def test_ctrl_c_in_the_api_leaves_nothing(self, ct_file: Path, tmp_path: Path) -> None:
        program = f"""
import os, signal
import medsegagent
from medsegagent.phantom import CARDS, MODELS

def listen(event):
    if isinstance(event, medsegagent.Progress):
        os.kill(os.getpid(), signal.SIGINT)

try:
    team = medsegagent.Segmenter(CARDS, models_dir=MODELS)
    team.segment("the spleen in this CT", {str(ct_file)!r}, "out", on_event=listen)
except KeyboardInterrupt:
    print("interrupted")
"""
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.stdout == "interrupted\n", done.stderr
        assert list(tmp_path.iterdir()) == []


class TestImages:
    @pytest.mark.parametrize("orientation", ["LPS", "RAS", "oblique"])
    def test_a_file_an_array_and_both_libraries_images_give_the_same_masks(
        self, team: Segmenter, ct_file: Path, tmp_path: Path, orientation: str
    ) -> None:
        file = tmp_path / "ct.nii.gz"
        image = SimpleITK.ReadImage(str(ct_file))
        if orientation != "LPS":
            image = SimpleITK.DICOMOrient(image, "RAS")
        if orientation == "oblique":
            turn = SimpleITK.Euler3DTransform((0, 0, 0), 0.1, 0.2, -0.15)
            image.SetDirection(
                (np.array(turn.GetMatrix()).reshape(3, 3) @ np.array(image.GetDirection()).reshape(3, 3)).ravel()
            )
        SimpleITK.WriteImage(image, str(file))
        image = SimpleITK.ReadImage(str(file))
        grid = Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
        other = nibabel.load(file)
        expected = team.segment("the spleen in this CT", file).masks["spleen"]
        assert expected.any()
        for given in (
            image,
            other,
            volume_of(SimpleITK.GetArrayFromImage(image), grid=grid),
            volume_of(np.asarray(other.dataobj), affine=other.affine),
        ):
            assert np.array_equal(team.segment("the spleen in this CT", given).masks["spleen"], expected)

    def test_spacing_alone_is_enough(self, team: Segmenter, ct_file: Path) -> None:
        image = SimpleITK.ReadImage(str(ct_file))
        volume = volume_of(SimpleITK.GetArrayFromImage(image), spacing=image.GetSpacing())
        assert volume.grid.spacing == pytest.approx(image.GetSpacing())

    def test_channels_have_names(self, team: Segmenter, ct_file: Path, spleen: Result) -> None:
        given = {"CT": SimpleITK.ReadImage(str(ct_file))}
        result = team.segment("the spleen in this CT", given)
        assert result.structures == spleen.structures
        assert result.record is not None
        assert result.record.inputs[0].channel == "CT"


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("arguments", "named", "kinds"),
        [
            (("the spleen", "absent.nii.gz"), "absent.nii.gz", (MissingFileError, FileNotFoundError, ImageError)),
            (("the spleen", 7), "image", (ArgumentTypeError, TypeError, UsageError)),
            (("the spleen", {}), "image", (UsageError, ValueError)),
            ((7, "ct.nii.gz"), "instruction", (ArgumentTypeError, TypeError)),
            (("spleen \udcff", "ct.nii.gz"), "instruction", (UsageError, ValueError)),
            (("", "ct.nii.gz"), "instruction", (UsageError, ValueError)),
        ],
    )
    def test_each_is_ours_and_pythons_and_names_the_parameter(
        self, team: Segmenter, ct_file: Path, arguments: tuple[object, ...], named: str, kinds: tuple[type, ...]
    ) -> None:
        given = [ct_file if argument == "ct.nii.gz" else argument for argument in arguments]
        with pytest.raises(MedSegAgentError, match=named) as caught:
            team.segment(*given)  # type: ignore[arg-type]
        for kind in kinds:
            assert isinstance(caught.value, kind)

    @pytest.mark.parametrize(
        ("options", "named"),
        [({"fusion": "mean"}, "fusion"), ({"tile_step": 2.0}, "tile_step"), ({"weights": (("a", -1.0),)}, "weights")],
    )
    def test_options_are_checked_when_they_are_made(self, options: dict[str, object], named: str) -> None:
        with pytest.raises(ValueError, match=f"^{named}"):
            Options(**options)  # type: ignore[arg-type]

    def test_options_that_need_the_library_are_refused_before_any_work(
        self, team: Segmenter, ct_file: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match=r"^only: 'nobody'"):
            team.segment(REQUESTS[0], tmp_path / "not looked for", options=Options(only=("nobody",)))
        with pytest.raises(TypeError, match="options"):
            team.segment(REQUESTS[0], ct_file, options={"fusion": "union"})  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "arguments",
        [{}, {"spacing": (1, 1, 1), "affine": np.eye(4)}, {"spacing": (1, 0, 1)}, {"affine": np.eye(3)}],
    )
    def test_an_array_needs_one_honest_place(self, arguments: dict[str, object]) -> None:
        with pytest.raises(UsageError):
            volume_of(np.arange(27.0).reshape(3, 3, 3), **arguments)  # type: ignore[arg-type]


class TestEvents:
    def test_everything_is_told_in_order(self, team: Segmenter, ct_file: Path) -> None:
        events: list[object] = []
        team.segment(REQUESTS[0], ct_file, on_event=events.append)
        said = [event.agent for event in events if isinstance(event, Said)]
        assert said == ["user", "Parser", "ModalityMatcher", "AnatomyMatcher", "LabelMatcher", "Executor", "Reporter"]
        tiles = [event for event in events if isinstance(event, Progress)]
        assert tiles[-1].done == tiles[-1].total

    def test_a_listener_that_raises_changes_nothing_and_is_logged(
        self, team: Segmenter, ct_file: Path, spleen: Result, caplog: pytest.LogCaptureFixture
    ) -> None:
        def listen(event: object) -> None:
            raise RuntimeError("a bug of the listener's")

        with caplog.at_level(logging.ERROR, logger="medsegagent"):
            assert team.segment(REQUESTS[0], ct_file, on_event=listen).structures == spleen.structures
        assert "the listener failed" in caplog.text

    def test_the_log_says_what_ran_and_the_library_configures_nothing(
        self, team: Segmenter, ct_file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="medsegagent"):
            team.segment(REQUESTS[0], ct_file)
        assert "phantom/ct_organs ran" in caplog.text
        program = (
            "import logging, warnings; before = list(warnings.filters); import medsegagent, medsegagent.road.execute\n"
            "assert logging.getLogger().handlers == []\n"
            "assert [type(h).__name__ for h in logging.getLogger('medsegagent').handlers] == ['NullHandler']\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


class TestTheFolder:
    def test_it_is_refused_before_any_work(self, team: Segmenter, ct_file: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("a file")
        events: list[object] = []
        with pytest.raises(OutputError):
            team.segment(REQUESTS[0], ct_file, tmp_path / "out", on_event=events.append)
        assert events == []

    def test_an_error_leaves_nothing(self, team: Segmenter, ct_file: Path, tmp_path: Path) -> None:
        with pytest.raises(NoMatchError):
            team.segment("the spinal cord in this CT", ct_file, tmp_path / "deep" / "out")
        assert list(tmp_path.iterdir()) == []


def test_what_there_is_shows() -> None:
    assert {"Segmenter", "Options", "Result", "segment", "match", "volume_of"} <= set(dir(medsegagent))
    assert (Path(medsegagent.__file__).parent / "py.typed").exists()
    for name in dir(medsegagent):
        assert getattr(medsegagent, name).__doc__ or name == "Event"
