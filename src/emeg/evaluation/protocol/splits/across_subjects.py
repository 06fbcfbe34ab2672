"""Rules under which no subject is on two sides of a fold, and the rule for unseen stimuli."""

import numpy as np
from numpy.typing import NDArray

from emeg.data.sampling.order import hash_order
from emeg.data.tasks.recipes import SplitRule
from emeg.errors import UserError
from emeg.evaluation.protocol.splits.division import VALIDATION_SHARE, Division, left_out, matching
from emeg.evaluation.protocol.splits.manifest import (
    CALIBRATION,
    SUPPORT,
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    VALIDATION_SUPPORT,
    Labelled,
    Sides,
)


def cross_subject(division: Division) -> tuple[Sides, str]:
    """Divide subjects into folds; each is tested once, or the official test set in every fold."""
    official = matching(division.windows.sources, division.rule.official_test)
    if not official.any():
        if division.rule.official_test is not None:
            raise UserError(f"no recording matches official_test {division.rule.official_test!r}; correct the pattern")
        return division.folds_of_people()
    folded, notice = division.folds_of_people(~official)
    # everybody outside the official test set trains or validates
    sides = np.where(folded == TEST, VALIDATION, np.where(folded == VALIDATION, TRAIN, folded)).astype(np.int8)
    sides[:, official] = TEST
    return sides, notice


def leave_one_subject_out(division: Division) -> tuple[Sides, str]:
    """Test each subject in a fold of its own."""
    people = sorted(set(division.groups.tolist()))
    if len(people) < 3:
        raise UserError(f"{len(people)} subjects: training, validation and test need one each; use more subjects")
    n_validation = max(1, round(VALIDATION_SHARE * (len(people) - 1)))
    order = hash_order(people, "folds", division.seed)
    everything = set(division.windows.labels.tolist())
    sides = np.full((len(people), division.n_windows), TRAIN, np.int8)
    for fold, person in enumerate(people):
        others = [name for name in order if name != person]
        turned = others[fold % len(others) :] + others[: fold % len(others)]
        chosen = _validation_people(division, turned, n_validation, everything, fold)
        sides[fold, np.isin(division.groups, chosen)] = VALIDATION
        sides[fold, division.groups == person] = TEST
    return sides, ""


def _validation_people(division: Division, turned: list[str], n: int, everything: set[int], fold: int) -> list[str]:
    """Return the first `n` people that can be left out of training without losing a class."""
    for count in range(n, 0, -1):
        for start in range(len(turned)):
            chosen = [turned[(start + k) % len(turned)] for k in range(count)]
            rest = np.isin(division.groups, [name for name in turned if name not in chosen])
            if not division.is_classes or set(division.windows.labels[rest].tolist()) == everything:
                return chosen
    raise UserError(f"fold {fold + 1}: a class is missing from training, whichever people validate; use more subjects")


def held_out_device(division: Division) -> tuple[Sides, str]:
    """Test each device on new subjects, with training and validation on the other devices."""
    devices = sorted(set(division.windows.devices.tolist()))
    if len(devices) < 2:
        raise UserError(f"held_out_device: all recordings are of device {devices[0]}; use rule cross_subject")
    folded, notice = division.folds_of_people()
    parts = []
    for device in devices:
        of_device = division.windows.devices == device
        one = folded.copy()
        one[(folded == TEST) & ~of_device] = UNUSED
        one[(folded != TEST) & of_device] = UNUSED
        # a fold whose test people were not recorded with the device is no fold
        parts += [row for row in one if all((row == side).any() for side in (TRAIN, VALIDATION, TEST))]
    if not parts:
        raise UserError("held_out_device: no device leaves windows for training and validation; use fewer folds")
    return np.stack(parts), notice


def few_shot(division: Division) -> tuple[Sides, str]:
    """Fit each new subject on its first examples of each class, and test the rest."""
    if not division.is_classes:
        raise UserError("few_shot needs classes; use rule within_subject_blocks for a continuous target")
    folded, notice = division.folds_of_people()
    support = np.zeros(division.n_windows, bool)
    query = np.zeros(division.n_windows, bool)
    without = []
    for subject in sorted(set(division.windows.subjects.tolist())):
        own = division.in_time(np.flatnonzero(division.windows.subjects == subject))
        labels = division.windows.labels[own]
        first = [own[labels == label][: division.examples] for label in np.unique(labels)]
        chosen = np.concatenate(first)
        rest = own[~np.isin(own, chosen)]
        rest = rest[~division.near(rest, chosen)]
        complete = set(division.windows.labels[rest].tolist()) == set(labels.tolist())
        if len(first) < 2 or not complete or any(len(one) < division.examples for one in first):
            without.append(subject)
            continue
        support[chosen], query[rest] = True, True
    sides = np.full_like(folded, UNUSED)
    sides[(folded == VALIDATION) & query] = VALIDATION
    sides[(folded == VALIDATION) & support] = VALIDATION_SUPPORT
    sides[(folded == TEST) & query] = TEST
    sides[(folded == TEST) & support] = SUPPORT
    left = left_out(without, f"have fewer than {division.examples} examples of each class beside those tested")
    return sides, "; ".join(filter(None, (notice, left)))


def calibration(division: Division) -> tuple[Sides, str]:
    """Divide subjects into folds, and set the first signal of test subjects aside as unlabelled."""
    folded, notice = division.folds_of_people()
    early = calibration_windows(division.windows, division.rule.calibration_s)
    sides = folded.copy()
    sides[(folded == TEST) & early] = CALIBRATION
    return sides, notice


def calibration_windows(windows: Labelled, calibration_s: float) -> NDArray[np.bool_]:
    """Return which windows lie in the first unlabelled signal of their subject; the last window is never one.

    Parameters
    ----------
    windows : Labelled
    calibration_s : float
        Signal of each subject, s.

    Returns
    -------
    bool, shape (windows,)
    """
    division = Division(windows, SplitRule(), 0, 1, {})
    early = np.zeros(division.n_windows, bool)
    n_most = max(1, int(calibration_s * windows.sfreq / windows.n_samples))
    for subject in np.unique(windows.subjects):
        own = division.in_time(np.flatnonzero(windows.subjects == subject))
        early[own[: min(n_most, len(own) - 1)]] = True
    return early


def unseen_stimuli(division: Division) -> tuple[Sides, str]:
    """Divide stimuli into folds, so that each is tested with a fit on others."""
    labels, n_folds = division.windows.labels, division.rule.n_folds
    stimuli = [str(label) for label in sorted(set(labels.tolist()))]
    if len(stimuli) < max(3, n_folds):
        raise UserError(f"unseen_stimuli: {len(stimuli)} stimuli are fewer than {max(3, n_folds)} folds; use fewer")
    order = np.array([int(label) for label in hash_order(stimuli, "stimuli", division.seed)])
    block_of = dict(zip(order.tolist(), (np.arange(len(order)) * n_folds // len(order)).tolist(), strict=True))
    blocks = np.array([block_of[label] for label in labels.tolist()])
    sides = np.full((n_folds, division.n_windows), TRAIN, np.int8)
    for fold in range(n_folds):
        sides[fold, blocks == (fold + 1) % n_folds] = VALIDATION
        sides[fold, blocks == fold] = TEST
    return sides, ""
