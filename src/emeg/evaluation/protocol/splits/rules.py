"""Divide the windows of a task by the rule of its recipe."""

from collections.abc import Callable, Mapping

from emeg.data.tasks.recipes import SplitRule
from emeg.errors import UserError
from emeg.evaluation.protocol.splits import across_subjects, within_subject
from emeg.evaluation.protocol.splits.division import Division
from emeg.evaluation.protocol.splits.manifest import (
    SIDES,
    SUPPORT,
    TEST,
    TRAIN,
    VALIDATION,
    Labelled,
    Sides,
    SplitManifest,
    check_apart,
    manifest_of,
)

ACROSS = frozenset({"cross_subject", "leave_one_subject_out", "held_out_device", "few_shot", "calibration"})
"""Rules under which no subject is on two sides of a fold."""
RULES: dict[str, Callable[[Division], tuple[Sides, str]]] = {
    "cross_subject": across_subjects.cross_subject,
    "leave_one_subject_out": across_subjects.leave_one_subject_out,
    "within_subject_blocks": within_subject.within_subject_blocks,
    "cross_session": within_subject.cross_session,
    "held_out_device": across_subjects.held_out_device,
    "few_shot": across_subjects.few_shot,
    "calibration": across_subjects.calibration,
    "unseen_stimuli": across_subjects.unseen_stimuli,
}
"""Rules by name."""


def make_splits(
    windows: Labelled,
    rule: SplitRule,
    *,
    seed: int = 0,
    examples: int | None = None,
    groups: Mapping[str, str] | None = None,
) -> SplitManifest:
    """Divide the windows of a task by a rule.

    Parameters
    ----------
    windows : Labelled
    rule : SplitRule
    seed : int
        Seed of the order of subjects or stimuli.
    examples : int, optional
        Labelled examples of each class and subject, for few_shot; by default the first that the rule lists.
    groups : mapping, optional
        Key shared by names of the same person or family, which are never on two sides.

    Raises
    ------
    UserError
        There are too few subjects, sessions, devices or windows for the rule, or a class is missing from training.
    """
    division = Division(windows, rule, seed, examples or rule.examples_per_class[0], groups or {})
    sides, notice = RULES[rule.rule](division)
    if rule.rule in ACROSS:
        check_apart(sides, division.groups)
    _check_full(sides, windows, rule.rule, notice)
    return manifest_of(rule.rule, windows, sides, notice)


def _check_full(sides: Sides, windows: Labelled, rule: str, notice: str) -> None:
    needed = (SUPPORT, VALIDATION, TEST) if rule == "few_shot" else (TRAIN, VALIDATION, TEST)
    for fold, row in enumerate(sides):
        for side in needed:
            if not (row == side).any():
                n_subjects = len(set(windows.subjects.tolist()))
                reason = f"; {notice}" if notice else ""
                raise UserError(
                    f"split rule {rule}: fold {fold + 1} has no {SIDES[side]} windows ({n_subjects} subjects,"
                    f" {len(row)} windows{reason}); use fewer folds, another rule, or more data"
                )
