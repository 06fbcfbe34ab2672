"""The checks in order, and the error of an evaluation that does not pass them."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from emeg.errors import UserError
from emeg.evaluation.leaks.content import (
    chosen_on_test,
    copied_recordings,
    copied_windows,
    fitted_on_test,
    overlapping_windows,
    windows_on_two_sides,
)
from emeg.evaluation.leaks.labels import (
    label_in_channel,
    label_in_conditions,
    label_in_order,
    shared_blocks,
    stimuli_on_two_sides,
)
from emeg.evaluation.leaks.people import (
    datasets_of_pretraining,
    people_on_two_sides,
    subjects_of_pretraining,
    subjects_on_two_sides,
)
from emeg.evaluation.leaks.setup import MOST_LISTED, Check, Setup


class Rule(NamedTuple):
    """A check: what must hold, and the function that lists what does not."""

    title: str
    find: Callable[[Setup], list[str]]
    stops: bool = True
    action: str = "correct the split, or leave the recordings out"


CHECKS: dict[str, Rule] = {
    "windows_disjoint": Rule("No window is on two sides of a fold", windows_on_two_sides),
    "windows_overlap": Rule(
        "No two windows on different sides share samples", overlapping_windows, action="set split.gap_s or stride_s"
    ),
    "subjects_apart": Rule("No subject is on two sides of a fold", subjects_on_two_sides),
    "people_apart": Rule(
        "No person or family is on two sides under several names",
        people_on_two_sides,
        action="give such names one group, or leave all but one of them out",
    ),
    "recordings_copied": Rule(
        "No recording is a copy of one on another side, or of one that the model was trained on",
        copied_recordings,
        action="run `emeg copies`, and withdraw one of the two",
    ),
    "windows_copied": Rule("No window has the signal of a window on another side", copied_windows),
    "fitted_on_test": Rule(
        "Preprocessing and models are fitted on training windows only",
        fitted_on_test,
        action="fit inside each fold, on its training windows",
    ),
    "chosen_on_test": Rule(
        "Settings are chosen without test windows", chosen_on_test, action="choose on validation windows"
    ),
    "pretraining_subjects": Rule(
        "No tested subject was in pretraining",
        subjects_of_pretraining,
        action="use subjects that the corpus holds out, or a model trained without them",
    ),
    "pretraining_datasets": Rule(
        "No tested dataset is among those that imported weights declare",
        datasets_of_pretraining,
        action="use another task or other weights; a model of an older version names no corpus, train it again",
    ),
    "label_in_channel": Rule(
        "No channel holds the label", label_in_channel, action="exclude the channel (`channels.exclude`)"
    ),
    "blocks_apart": Rule(
        "No block of one class has windows in training and test", shared_blocks, action="split by whole blocks"
    ),
    "stimuli_apart": Rule("No stimulus is on two sides where unseen stimuli are tested", stimuli_on_two_sides),
    "label_in_conditions": Rule(
        "Dataset, device and layout do not give the label away",
        label_in_conditions,
        stops=False,
        action="balance the classes over devices, or choose recordings of one device",
    ),
    "label_in_order": Rule(
        "Classes do not come in one fixed order",
        label_in_order,
        stops=False,
        action="state it beside the figures: slow drifts predict the label",
    ),
}
"""Checks by name. Those that do not stop an evaluation describe its data, which no split can mend."""


def run_checks(setup: Setup, *, only_stopping: bool = False) -> list[Check]:
    """Run the checks on an evaluation before its first fit.

    Parameters
    ----------
    setup : Setup
    only_stopping : bool
        Leave out those that only describe the data.
    """
    done = []
    for name, rule in CHECKS.items():
        if only_stopping and not rule.stops:
            continue
        found = rule.find(setup)
        listed = tuple(found[:MOST_LISTED])
        if len(found) > MOST_LISTED:
            listed += (f"{len(found) - MOST_LISTED} more",)
        done.append(Check(name, rule.title, not found, rule.stops, listed))
    return done


def _action(name: str) -> str:
    return CHECKS[name].action if name in CHECKS else "fit and choose inside each fold, without its test windows"


def stop_on_leaks(checks: Sequence[Check], *, task: str, accepted: Collection[str] = ()) -> None:
    """Raise an error if a check failed that stops an evaluation and that the task does not accept by name.

    Raises
    ------
    UserError
        The message names the checks, the first examples and the next action.
    """
    failed = [check for check in checks if not check.passed and check.stops and check.name not in accepted]
    if not failed:
        return
    listed = "; ".join(f"{check.name}: {'; '.join(check.found[:2])} ({_action(check.name)})" for check in failed)
    raise UserError(
        f"task {task}: {len(failed)} leak checks failed, so no figure is computed. {listed}. Or name the"
        " check in `accepted_checks` of the task where its data cannot be otherwise"
    )
