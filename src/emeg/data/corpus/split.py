"""Split subjects, never segments, into training, validation and held out for tasks."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from emeg.data.sampling.order import exact, hash_order, round_half_down
from emeg.errors import UserError

Split = Literal["train", "validation", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "validation", "held_out")


def split_subjects(
    devices: Mapping[str, Collection[str]],
    *,
    held_out: float,
    validation: float,
    seed: int,
    held_out_subjects: Collection[str] = (),
    group_of: Mapping[str, str] | None = None,
) -> dict[str, Split]:
    """Assign every subject to one split.

    Subjects recorded with the same set of devices form a stratum. In each stratum, the share `held_out` is kept for
    tasks and the share `validation` of the others validates; counts are rounded so that their sums over the strata
    stay exact. Then, where possible, subjects are moved until every device with at least two subjects has one in
    training and one held out. The choice follows a hash keyed with the seed, so that a new subject moves few others.

    Parameters
    ----------
    devices : mapping
        Devices of every subject, by global name ``dataset/subject``.
    held_out, validation : float
        Shares; 0 leaves the split empty. With `held_out` 1 nobody trains.
    seed : int
    held_out_subjects : collection of str
        Subjects that are always held out; they count towards the share.
    group_of : mapping, optional
        Key shared by names of the same person (or family), which stay in one split.

    Raises
    ------
    UserError
        There are fewer subjects than splits, or a name is unknown.
    """
    unknown = sorted(set(held_out_subjects) - set(devices))
    if unknown:
        raise UserError(
            f"held_out_subjects: no subject with data is called {', '.join(unknown)}; "
            f"choose from {', '.join(sorted(devices)[:8])}{' …' if len(devices) > 8 else ''}"
        )
    if held_out == 1:
        return dict.fromkeys(sorted(devices), "held_out")
    group_of = group_of or {}
    people: dict[str, set[str]] = defaultdict(set)
    for name, names in devices.items():
        people[group_of.get(name, name)] |= set(names)
    fixed = {group_of.get(name, name) for name in held_out_subjects}
    _check_counts(people, held_out, validation, fixed)
    split = _draw(people, held_out, validation, seed, fixed)
    wanted = _coverage(people, held_out, validation, fixed)
    for members, target in wanted:
        _cover(split, people, members, target, fixed)
    return {name: split[group_of.get(name, name)] for name in sorted(devices)}


def join_groups(group_of: Mapping[str, str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Merge the groups of every pair of names, transitively; a merged group is named by its first.

    Subjects of recordings that hold the same data are joined this way, so that no copy is tested on.
    """
    merged = dict(group_of)
    for one, other in pairs:
        groups = {merged.get(one, one), merged.get(other, other)}
        kept = min(groups)
        merged[one] = merged[other] = kept
        merged = {name: kept if group in groups else group for name, group in merged.items()}
    return merged


def _check_counts(people: Mapping[str, object], held_out: float, validation: float, fixed: Collection[str]) -> None:
    wanted = ["training"] + ["validation"] * (validation > 0) + ["held out"] * (held_out > 0 or bool(fixed))
    free = len(people) - len(fixed)
    if free < len(wanted) - bool(fixed):
        raise UserError(
            f"{free} subjects with data ({', '.join(sorted(people)[:4]) or 'none'}), not counting those held out"
            f" by name, are too few: {' and '.join(wanted)} need one subject each, and a subject is in one split only;"
            " ingest more subjects, or set held_out or validation to 0"
        )


def _draw(
    people: Mapping[str, set[str]], held_out: float, validation: float, seed: int, fixed: Collection[str]
) -> dict[str, Split]:
    """Split every stratum by counts; each stratum corrects the rounding error of the one before."""
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for person, names in people.items():
        strata[tuple(sorted(names))].append(person)
    split: dict[str, Split] = {}
    ideal_held = ideal_validation = exact(0.0)
    n_held = n_validation = 0
    for _, members in sorted(strata.items(), key=lambda item: (-len(item[1]), item[0])):
        order = hash_order(members, "person", seed)
        order = [p for p in order if p in fixed] + [p for p in order if p not in fixed]
        n = len(order)
        n_fixed = sum(p in fixed for p in order)
        ideal_held += exact(held_out) * n
        least, most = (1, n - 1) if n > 1 and held_out > 0 else (0, n if held_out > 0 else 0)
        held = max(n_fixed, min(max(round_half_down(ideal_held) - n_held, least), most))
        rest = n - held
        ideal_validation += exact(validation) * rest
        validating = min(max(round_half_down(ideal_validation) - n_validation, 0), max(rest - 1, 0))
        n_held += held
        n_validation += validating
        for i, person in enumerate(order):
            split[person] = "held_out" if i < held else "validation" if i < held + validating else "train"
    return split


def _coverage(
    people: Mapping[str, set[str]], held_out: float, validation: float, fixed: Collection[str]
) -> list[tuple[list[str], Split]]:
    """Return (subjects, split that one of them must be in): all subjects first, then those of each shared device."""
    everybody = sorted(people)
    wanted: list[tuple[list[str], Split]] = [(everybody, "train")]
    if validation > 0:
        wanted.append((everybody, "validation"))
    if held_out > 0 or fixed:
        wanted.append((everybody, "held_out"))
    for device in sorted(set().union(*people.values())):
        members = [p for p in everybody if device in people[p]]
        if len(members) > 1:
            wanted.append((members, "train"))
        if len(members) > 1 and held_out > 0:
            wanted.append((members, "held_out"))
    return wanted


def _cover(
    split: dict[str, Split],
    people: Mapping[str, set[str]],
    members: Sequence[str],
    target: Split,
    fixed: Collection[str],
) -> None:
    """Move one of `members` into `target` unless one is there, choosing the subject its own split needs least."""
    if any(split[p] == target for p in members):
        return

    def ease(person: str) -> tuple[bool, bool, int, int, str]:
        own = split[person]
        per_device = [sum(split[p] == own and d in people[p] for p in split) for d in sorted(people[person])]
        in_split = sum(s == own for s in split.values())
        empties_nothing = min(per_device, default=1) > 1 and in_split > 1
        # validation is a share of those not held out; otherwise take from the largest split, then by name
        from_train = target == "validation" and own == "train"
        return (empties_nothing, from_train, in_split, min(per_device, default=1), person)

    movable = [p for p in members if p not in fixed and sum(s == split[p] for s in split.values()) > 1]
    if movable:
        split[max(movable, key=ease)] = target
