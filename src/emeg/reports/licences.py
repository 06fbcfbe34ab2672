"""Compare the licences of training data with the publication of weights."""

import re
from collections.abc import Iterable, Sequence

from emeg.evaluation.leaks.people import dataset_id
from emeg.registry import Registry
from emeg.training.dataset_use import DatasetUse

_NON_COMMERCIAL = re.compile(r"\bNC\b|non[- ]?commercial", re.IGNORECASE)
_NO_DERIVATIVES = re.compile(r"\bND\b|no[- ]?deriv", re.IGNORECASE)
_UNKNOWN = {"", "not stated", "unknown", "n/a"}


def obstacles(datasets: Sequence[DatasetUse], *, licence: str, private: bool, unknown_accepted: bool) -> list[str]:
    """Return one sentence for each dataset whose licence does not admit the publication, with the next action.

    A licence without derivatives forbids every publication, as does a rule against copies in a cloud. Data that may not
    be redistributed forbid a public repository. Data for non-commercial use need a non-commercial licence of the
    weights. A licence that is not known is an obstacle until the user has looked it up.

    Parameters
    ----------
    datasets : sequence of DatasetUse
        What the model declares; empty if it was imported or trained by an older version.
    licence : str
        Licence of the weights, as the hub names it.
    private : bool
        Whether the repository is private.
    unknown_accepted : bool
        Whether the user has checked the licences that are not stated.
    """
    found: list[str] = []
    if not datasets and not unknown_accepted:
        found.append("its training data are not declared: look their licences up, then pass --unknown-licences-checked")
    for use in datasets:
        entry = Registry.load().find(dataset_id(use.id))
        flags = set(entry.licence_flags) if entry is not None else set()
        stated = {text for text in use.licences if text.lower() not in _UNKNOWN}
        if not stated and entry is not None and entry.licence.lower() not in _UNKNOWN:
            stated = {entry.licence}
        text = ", ".join(sorted(stated)) or "not stated"
        where = f"{use.id} ({use.stage}, licence {text})"
        if any(_NO_DERIVATIVES.search(one) for one in stated):
            found.append(f"{where} admits no derivatives: train without it")
        if "no_cloud_copy" in flags:
            found.append(f"{where} may not be copied to a cloud: keep these weights on your machines")
        elif "no_redistribution" in flags and not private:
            found.append(f"{where} may not be redistributed: use a private repository (--private)")
        is_non_commercial = "non_commercial" in flags or any(_NON_COMMERCIAL.search(one) for one in stated)
        if is_non_commercial and not _NON_COMMERCIAL.search(licence):
            found.append(f"{where} is for non-commercial use: choose a licence such as --licence cc-by-nc-4.0")
        if not stated and not unknown_accepted:
            found.append(f"{where}: look the licence up, then pass --unknown-licences-checked")
    return list(dict.fromkeys(found))


def conditions(datasets: Iterable[DatasetUse]) -> list[str]:
    """Return one sentence for each dataset whose licence sets a condition that users of the weights must know."""
    found: list[str] = []
    for use in datasets:
        entry = Registry.load().find(dataset_id(use.id))
        flags = set(entry.licence_flags) if entry is not None else set()
        if "share_alike" in flags or any(re.search(r"\bSA\b", text) for text in use.licences):
            found.append(f"{use.id}: share alike")
        if "derived_data_must_be_open" in flags:
            found.append(f"{use.id}: derived data must be open")
    return list(dict.fromkeys(found))
