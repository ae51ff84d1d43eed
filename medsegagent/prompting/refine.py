"""The loop: ask the policy, prompt the model, look at what came of it, until it stops or the budget is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import EndpointError, ModelError, PromptError, SessionLostError
from medsegagent.images.boxed import Boxed, shared
from medsegagent.images.volume import Grid
from medsegagent.prompting.episode import Episode, Turn
from medsegagent.prompting.model import PromptableModel
from medsegagent.prompting.policies.base import Act, Answer, Policy, State, Stop, Undo, Unusable
from medsegagent.prompting.prompts import Packed, Prompt, Seed
from medsegagent.prompting.reward import from_counts
from medsegagent.prompting.session import PromptSession
from medsegagent.prompting.wanted import BUDGET as BUDGET

Listener = Callable[[Episode], None]


def refine(
    model: PromptableModel,
    policy: Policy,
    array: NDArray[np.float32],
    grid: Grid,
    *,
    target: str,
    image: str = "",
    seed: Boxed[np.bool_] | None = None,
    budget: int = BUDGET,
    truth: Boxed[np.bool_] | None = None,
    on_turn: Listener | None = None,
) -> Episode:
    """Refine one mask.

    An answer that cannot be used (a point outside the image, prose, two calls) is told to the policy once; a second
    one in a row ends the episode. What was reached is always returned. The model is closed at the end.

    Args:
        model: Answers the prompts.
        policy: Chooses them.
        array: The image `(Z, Y, X)`, as stored.
        grid: Where it lies.
        target: What is to be segmented, in words.
        image: Its sha256, for the record.
        seed: The mask to start from; not counted as a turn. Empty ones, and models that take none, start from nothing.
        budget: Most turns.
        truth: To score each turn with.
        on_turn: Told the episode so far: at its beginning, after each turn, and at the end.

    Raises:
        ImageError: If the image cannot be prompted.
        PromptError: If the seed does not fit it.
    """
    tell = on_turn or (lambda _: None)
    offered = model.capabilities
    episode = Episode(
        target=target,
        policy=policy.name,
        adapter=offered.adapter,
        model=offered.model,
        licence=offered.licence,
        image=image,
        size=grid.size,
        voxel_ml=grid.voxel_ml,
    )
    with PromptSession(model) as session:
        session.open(array, grid)
        tell(episode)
        if seed is not None and seed.any() and offered.seed:
            episode = _prompt(session, episode, Act(Seed(voxels=Packed.of(seed)), "the mask as it was"), truth)
            tell(episode)
        episode = _loop(session, policy, episode, array, budget, truth, tell)
    tell(episode)
    return episode


def _loop(
    session: PromptSession,
    policy: Policy,
    episode: Episode,
    array: NDArray[np.float32],
    budget: int,
    truth: Boxed[np.bool_] | None,
    tell: Listener,
) -> Episode:
    complaint = ""
    while True:
        left = budget - len(episode.prompted)
        if left <= 0:
            return replace(episode, ended="budget", why=f"the budget of {budget} turns is spent")
        state = State(
            episode.target, array, session.grid, session.mask, episode.turns, session.capabilities, left, complaint
        )
        try:
            after = _turn(session, policy.decide(state), episode, truth)
        except (SessionLostError, EndpointError, ModelError) as error:
            return replace(episode, ended="lost", why=str(error))
        except PromptError as error:
            after = str(error)
        problem = after if isinstance(after, str) else ""
        if isinstance(after, Episode):
            episode = after
            if episode.ended != "open":
                return episode
            tell(episode)
        if problem and complaint:
            return replace(episode, ended="invalid", why=f"two unusable actions in a row; the last: {problem}")
        complaint = problem


def _turn(session: PromptSession, answer: Answer, episode: Episode, truth: Boxed[np.bool_] | None) -> Episode | str:
    """Do what the policy answered; why it cannot be done, if it cannot.

    Raises:
        PromptError: If the prompt does not fit.
    """
    match answer:
        case Stop(why=why):
            return replace(episode, ended="stopped", why=why)
        case Undo() if episode.prompted:
            session.undo()
            return replace(episode, turns=episode.turns[:-1])
        case Undo():
            return "there is nothing to take back"
        case Unusable(complaint=said):
            return said
        case Act():
            return _prompt(session, episode, answer, truth)


def _prompt(session: PromptSession, episode: Episode, act: Act, truth: Boxed[np.bool_] | None) -> Episode:
    """One turn, scored where the truth is known."""
    update = session.apply(act.prompt)
    iou = dice = None
    if truth is not None:
        iou, dice = from_counts(shared(truth, update.mask), truth.count, update.mask.count)
    turn = Turn(
        prompt=act.prompt,
        mask=update.mask,
        added=update.added,
        removed=update.removed,
        seconds=update.seconds,
        why=act.why,
        iou=iou,
        dice=dice,
        reconnected=update.reconnected,
    )
    return replace(episode, turns=(*episode.turns, turn))


def prompts_of(episode: Episode) -> tuple[Prompt, ...]:
    """All prompts of an episode, a seed first."""
    return tuple(turn.prompt for turn in episode.turns)
