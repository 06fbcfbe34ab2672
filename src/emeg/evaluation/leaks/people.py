"""Checks of subjects: one person on two sides, under one name or two, and tested subjects who were in pretraining."""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from emeg.evaluation.leaks.setup import Setup
from emeg.registry import Registry


def subjects_on_two_sides(setup: Setup) -> list[str]:
    """List subjects on two sides of a fold; none under rules that split each subject's own time."""
    return [] if setup.may_share_subjects else _shared(setup, str)


def people_on_two_sides(setup: Setup) -> list[str]:
    """List persons or families whose different names are on two sides of a fold."""
    if setup.may_share_subjects:
        return _shared(setup, setup.person, only_other_names=True)
    names = set(subjects_on_two_sides(setup))
    return [text for text in _shared(setup, setup.person, only_other_names=True) if text not in names]


def subjects_of_pretraining(setup: Setup) -> list[str]:
    """List tested subjects that the model or its tokenizer was trained on, also under another name of the person."""
    found = []
    tested = sorted(set(setup.subjects[setup.tested].tolist()))
    for corpus, splits in sorted(setup.pretraining.items()):
        seen = {setup.person(name): name for name, split in splits.items() if split != "held_out"}
        names = [(subject, seen[key]) for subject in tested if (key := setup.person(subject)) in seen]
        found += [f"{subject}: {splits[name]} subject {name} of corpus {corpus}" for subject, name in names]
    return found


def datasets_of_pretraining(setup: Setup) -> list[str]:
    """List tested datasets whose subjects are in a dataset that the card of imported weights declares.

    Datasets that share subjects by the registry count as one. Ids may carry a prefix such as ``openneuro:`` and a
    version.
    """
    tested = {name: setup.dataset_ids.get(name, name) for name in set(setup.datasets[setup.tested].tolist())}
    return [
        f"dataset {dataset}: model {model} declares {text} among its pretraining data"
        for model, declared in sorted(setup.pretraining_datasets.items())
        for dataset, text in declared_and_tested(declared, tested)
    ]


def declared_and_tested(declared: Collection[str], tested: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return pairs of a tested dataset and a declared dataset that has its subjects.

    Parameters
    ----------
    declared : collection of str
        Datasets that weights were trained on, in any spelling.
    tested : mapping of str to str
        Registry id of each tested dataset by its name in the store.
    """
    registry = Registry.load()
    ids = {dataset_id(text): text for text in declared}
    found = []
    for name, own in sorted(tested.items()):
        family = {*registry.sharing_with(dataset_id(own)), dataset_id(own), dataset_id(name)}
        found += [(name, ids[one]) for one in sorted(family & ids.keys())]
    return found


def dataset_id(text: str) -> str:
    """Return the id of a dataset without archive prefix and version: ``openneuro:DS004504@1.0.8`` is ``ds004504``."""
    name = text.strip().lower().rstrip("/")
    for separator in ("/", ":"):
        name = name.rsplit(separator, 1)[-1]
    return name.split("@", 1)[0].removeprefix("openneuro.")


def _shared(setup: Setup, key: Callable[[str], str], *, only_other_names: bool = False) -> list[str]:
    found = []
    for number, fold in enumerate(setup.folds):
        for one, other, first, second in fold.pairs():
            if one.startswith("support"):
                continue
            names = [sorted(set(setup.subjects[rows].tolist())) for rows in (first, second)]
            here = {key(name): name for name in names[0]}
            for name in names[1]:
                twin = here.get(key(name))
                if twin is not None and not (only_other_names and twin == name):
                    both = name if twin == name else f"{twin} and {name}"
                    found.append(f"fold {number + 1}: {both} in {one} and {other}")
        test_people = {key(name) for name in np.unique(setup.subjects[fold.test]).tolist()}
        if not only_other_names and not setup.may_share_subjects:
            stray = {key(name) for name in np.unique(setup.subjects[fold.shown]).tolist()}
            held = test_people | {key(name) for name in np.unique(setup.subjects[fold.validation]).tolist()}
            found += [f"fold {number + 1}: {name} in support and train" for name in sorted(stray - held)]
    return found
