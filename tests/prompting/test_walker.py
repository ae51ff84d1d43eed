"""Episodes with the walker: real volumes, oblique and left-handed grids, undo, replay, budget, disagreement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from medsegagent.errors import ImageError, PromptError
from medsegagent.fusion.segmentation import Ballot, Structure
from medsegagent.images.boxed import Boxed, shared
from medsegagent.images.volume import Grid
from medsegagent.phantom import make_patient
from medsegagent.phantom.patient import Patient
from medsegagent.prompting.adapters.walker import Walker
from medsegagent.prompting.episode import Episode, EpisodeFile, read_episode, replay, same_mask, write_episode
from medsegagent.prompting.policies.base import Act, Answer, State, Stop, Unusable
from medsegagent.prompting.policies.disagreement import Disagreement, Dispute, with_vote
from medsegagent.prompting.policies.oracle import Oracle, box_of
from medsegagent.prompting.policies.script import Script, read_script
from medsegagent.prompting.prompts import Box, Packed, Point, Scribble, Seed
from medsegagent.prompting.refine import refine
from medsegagent.prompting.reward import from_counts
from medsegagent.prompting.session import PromptSession

PATIENT = make_patient(4242, "CT")


def truth_of(patient: Patient, *names: str) -> Boxed[np.bool_]:
    return Boxed.of(patient.mask(*names))


def dice(first: Boxed[np.bool_], second: Boxed[np.bool_]) -> float:
    return from_counts(shared(first, second), first.count, second.count)[1]


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Grid:
    return Grid(shape[::-1], spacing, (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def episode_of(patient: Patient, structure: str, policy: Oracle | None = None, **more: object) -> Episode:
    truth = truth_of(patient, structure)
    return refine(
        Walker(),
        policy or Oracle(truth),
        patient.image,
        patient.grid,
        target=structure,
        truth=truth,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAL"])
def test_three_clicks_make_an_organ_on_any_grid(orientation: str) -> None:
    patient = make_patient(4242, "CT", orientation=orientation)
    episode = episode_of(patient, "kidney_left", budget=3)
    assert episode.ended == "budget"
    assert episode.turns[-1].dice is not None
    assert episode.turns[-1].dice > 0.8


def test_a_click_is_always_obeyed() -> None:
    with PromptSession(Walker()) as session:
        session.open(PATIENT.image, PATIENT.grid)
        truth = PATIENT.mask("liver")
        k, j, i = (int(index) for index in np.argwhere(truth)[len(np.argwhere(truth)) // 2])
        session.apply(Point(voxel=(i, j, k)))
        assert session.mask.dense()[k, j, i]
        session.apply(Point(voxel=(i, j, k - 3), positive=False))
        assert not session.mask.dense()[k - 3, j, i]


def test_a_wrong_mask_is_mended_where_it_was_clicked_and_nowhere_far() -> None:
    truth = truth_of(PATIENT, "liver")
    wrong = truth.dense()
    cut = truth.box[0].start + (truth.box[0].stop - truth.box[0].start) // 2
    wrong[:cut] = False  # half of it is missing
    seed = Boxed.of(wrong)
    episode = refine(Walker(), Oracle(truth), PATIENT.image, PATIENT.grid, target="liver", seed=seed, truth=truth)
    scores = [turn.dice for turn in episode.turns]
    assert isinstance(episode.turns[0].prompt, Seed)
    assert len(episode.prompted) == 5
    assert scores[-1] is not None
    assert scores[0] is not None
    assert scores[-1] > scores[0] + 0.1
    far = np.zeros(seed.shape, bool)
    far[truth.box[0].stop - 4 :] = True
    inside = truth.dense() & far
    assert np.count_nonzero(episode.mask.dense() & inside) > 0.7 * np.count_nonzero(inside)


def test_a_box_bounds_the_mask_in_space_and_a_flat_one_starts_one() -> None:
    truth = truth_of(PATIENT, "bladder")
    for flat in (False, True):
        box = box_of(truth, flat=flat)
        assert box.flat == flat
        with PromptSession(Walker()) as session:
            session.open(PATIENT.image, PATIENT.grid)
            session.apply(box)
            assert dice(session.mask, truth) > 0.7


def test_a_scribble_marks_all_its_voxels() -> None:
    truth = PATIENT.mask("spleen")
    line = np.zeros_like(truth)
    k, j, _ = (int(index) for index in np.median(np.argwhere(truth), axis=0))
    line[k, j] = truth[k, j]
    with PromptSession(Walker()) as session:
        session.open(PATIENT.image, PATIENT.grid)
        session.apply(Scribble(voxels=Packed.of(Boxed.of(line))))
        assert session.mask.dense()[line].all()
        assert dice(session.mask, Boxed.of(truth)) > 0.7
        session.apply(Scribble(voxels=Packed.of(Boxed.of(line)), positive=False))
        assert not session.mask.dense()[line].any()


def test_undo_takes_back_one_prompt_after_the_other() -> None:
    truth = truth_of(PATIENT, "liver")
    with PromptSession(Walker()) as session:
        session.open(PATIENT.image, PATIENT.grid)
        masks = [session.mask]
        for turn in episode_of(PATIENT, "liver", budget=3).turns:
            masks.append(session.apply(turn.prompt).mask)
        assert dice(masks[-1], truth) > 0.8
        for before in masks[-2::-1]:
            assert session.undo()
            assert same_mask(session.mask, before)
        assert not session.undo()


def test_an_episode_is_written_read_and_replayed_to_the_same_mask(tmp_path: Path) -> None:
    file = tmp_path / "episode.jsonl"
    writer = EpisodeFile(file)
    written: list[int] = []

    def keep(episode: Episode) -> None:
        if not episode.turns:
            writer.begin(episode)
        elif episode.ended == "open":
            writer.turn(episode.turns[-1], episode.voxel_ml)
        else:
            writer.end(episode)
        written.append(len(file.read_text().splitlines()))

    episode = episode_of(PATIENT, "kidney_left", budget=3, on_turn=keep)
    assert written == [1, 2, 3, 4, 5]
    again = read_episode(file)
    assert again.prompted[0].prompt == episode.turns[0].prompt
    assert again.ended == "budget"
    assert again.reward() == episode.reward()
    with PromptSession(Walker()) as session:
        session.open(PATIENT.image, PATIENT.grid)
        assert same_mask(replay(again, session), episode.mask)
    file.write_text("\n".join(file.read_text().splitlines()[:2]) + '\n{"kind": "tu')  # killed while it wrote
    torn = read_episode(file)
    assert torn.ended == "open"
    assert same_mask(torn.mask, episode.turns[0].mask)
    write_episode(torn, tmp_path / "whole.jsonl")
    assert same_mask(read_episode(tmp_path / "whole.jsonl").mask, torn.mask)


@pytest.mark.parametrize("text", ["", "[]\n", '{"kind": "episode"}\n', "\x00", '{"kind": "turn"}'])
def test_what_is_no_episode_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "episode.jsonl"
    file.write_text(text)
    with pytest.raises(PromptError, match="episode"):
        read_episode(file)


def test_a_prompt_before_an_image_and_a_seed_after_a_prompt_are_refused() -> None:
    session = PromptSession(Walker())
    with pytest.raises(PromptError, match="no image is open"):
        session.apply(Point(voxel=(0, 0, 0)))
    session.open(PATIENT.image, PATIENT.grid)
    session.apply(Point(voxel=(40, 40, 30)))
    with pytest.raises(PromptError, match="before all other"):
        session.apply(Seed(voxels=Packed.of(truth_of(PATIENT, "liver"))))
    assert len(session.prompts) == 1


@pytest.mark.parametrize("array", [np.zeros((4, 5, 6)), np.full((4, 5, 6), np.nan), np.zeros((2, 4, 5, 6))])
def test_an_image_with_nothing_to_see_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError):
        PromptSession(Walker()).open(array.astype(np.float32), grid((4, 5, 6)))


def test_slices_ten_times_as_thick_as_wide_and_a_single_slice_can_be_clicked() -> None:
    for shape, spacing in (((6, 60, 60), (1.0, 1.0, 10.0)), ((1, 60, 60), (1.0, 1.0, 1.0))):
        z, y, x = np.indices(shape)
        blob = ((x - 30) ** 2 + (y - 25) ** 2 < 12**2) & (z >= shape[0] // 3)
        image = (blob * 100.0 + np.random.default_rng(0).normal(0, 8, shape)).astype(np.float32)
        with PromptSession(Walker()) as session:
            session.open(image, grid(shape, spacing))
            session.apply(Point(voxel=(30, 25, shape[0] // 2)))
            assert dice(session.mask, Boxed.of(blob)) > 0.75


class Stubborn:
    """Gives the answers it was made with, the last one again and again."""

    name = "stubborn"

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.complaints: list[str] = []

    def decide(self, state: State) -> Answer:
        self.complaints.append(state.complaint)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def refined(*answers: Answer) -> tuple[Episode, Stubborn]:
    policy = Stubborn(*answers)
    return refine(Walker(), policy, PATIENT.image, PATIENT.grid, target="liver"), policy


def test_a_policy_that_never_stops_is_stopped_after_five_turns() -> None:
    episode, _ = refined(Act(Point(voxel=(40, 40, 30))))
    assert (episode.ended, len(episode.turns)) == ("budget", 5)


def test_an_unusable_answer_is_asked_for_again_once_with_the_reason_then_the_episode_ends() -> None:
    outside = Act(Point(voxel=(999, 0, 0)))
    good = Act(Point(voxel=(40, 40, 30)))
    episode, policy = refined(outside, good, Unusable("prose"), outside)
    assert (episode.ended, len(episode.turns)) == ("invalid", 1)
    assert "outside" in episode.why
    assert "outside" in policy.complaints[1]
    assert policy.complaints[2] == ""
    assert policy.complaints[3] == "prose"
    stopped, _ = refined(outside, Stop("right"))
    assert (stopped.ended, stopped.why) == ("stopped", "right")


def test_a_script_is_read_checked_and_given_once(tmp_path: Path) -> None:
    file = tmp_path / "script.json"
    file.write_text('[{"kind": "point", "voxel": [40, 40, 30]}, {"kind": "box", "low": [1, 1, 1], "high": [9, 9, 9]}]')
    script = read_script(file)
    assert script.prompts == (Point(voxel=(40, 40, 30)), Box(low=(1, 1, 1), high=(9, 9, 9)))
    episode = refine(Walker(), Script(script.prompts[:1]), PATIENT.image, PATIENT.grid, target="liver")
    assert (episode.ended, len(episode.turns)) == ("stopped", 1)
    for text in ("{}", "[]", "[[]]", '[{"kind": "point"}]', "x"):
        file.write_text(text)
        with pytest.raises(PromptError, match=r"script\.json"):
            read_script(file)


def structure(votes: Sequence[np.ndarray]) -> Structure:
    """Fused by majority; all weights 1."""
    support = np.rint(100 * np.mean(votes, axis=0)).astype(np.uint8)
    where = Boxed.of(support > 50)
    ballots = tuple(Ballot(f"m{n}", "card", 1.0, n + 1, int(vote.sum()), 0.9) for n, vote in enumerate(votes))
    return Structure("liver", "liver", "liver", ("liver",), where, Boxed.of(support), ballots, {}, 0, 1)


def test_what_all_models_agree_on_is_never_changed_and_the_rest_is_voted_on_anew() -> None:
    truth = PATIENT.mask("liver")
    low, high = np.roll(truth, 6, axis=2), truth.copy()
    high[: truth.shape[0] // 2 + 2] = False
    dispute = Dispute.of(structure([truth, low & truth, high]))
    policy = Disagreement(dispute)
    episode = refine(Walker(), policy, PATIENT.image, PATIENT.grid, target="liver", truth=Boxed.of(truth))
    assert episode.prompted
    voted = with_vote(dispute, episode.mask).dense()
    everybody, nobody = dispute.support.dense() == 100, dispute.support.dense() == 0
    assert voted[everybody].all()
    assert not voted[nobody].any()
    for prompt in (turn.prompt for turn in episode.prompted):
        assert isinstance(prompt, Point)
        share = dispute.support.dense()[prompt.voxel[::-1]]
        assert share == (100 if prompt.positive else 0)


def test_the_promptable_models_vote_decides_between_two_and_a_tie_stays() -> None:
    yes, no = np.ones((1, 1, 2), bool), np.zeros((1, 1, 2), bool)
    both = np.array([[[True, True]]])
    dispute = Dispute.of(structure([yes & both, np.array([[[True, False]]])]))
    assert with_vote(dispute, Boxed.of(yes)).dense().tolist() == [[[True, True]]]
    assert with_vote(dispute, Boxed.of(no)).dense().tolist() == [[[True, False]]]
    three = Dispute.of(structure([yes, yes, np.array([[[True, False]]])]))  # two to one, and one more against: a tie
    assert with_vote(three, Boxed.of(no)).dense().tolist() == [[[True, True]]]


def test_models_that_agree_and_models_that_agree_on_nothing_need_no_prompt() -> None:
    one = PATIENT.mask("spleen")
    for votes, why in (([one, one], "agree on every voxel"), ([one, PATIENT.mask("liver")], "agree on no voxel")):
        policy = Disagreement(Dispute.of(structure(votes)))
        episode = refine(Walker(), policy, PATIENT.image, PATIENT.grid, target="spleen")
        assert episode.ended == "stopped"
        assert why in episode.why
