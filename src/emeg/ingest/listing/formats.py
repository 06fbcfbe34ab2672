"""Decide which files are recordings, and which files or folders belong to one recording.

A format is named for its reader (`emeg.ingest.readers.opening`). Where several formats share an extension, the first
bytes of the file decide when it is read.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from emeg.ingest.listing.contents import Contents
from emeg.ingest.listing.fif_parts import Parts, find_parts
from emeg.ingest.text_files import decode_text

FOLDER_FORMATS: Mapping[str, str] = {".ds": "ctf", ".mff": "egi-mff", ".mefd": "mne"}
"""Extensions of folders that are one recording."""

FILE_FORMATS: Mapping[str, str] = {
    ".edf": "edf",
    ".bdf": "bdf",
    ".gdf": "gdf",
    ".vhdr": "brainvision",
    ".ahdr": "brainvision",
    ".set": "eeglab",
    ".fif": "fif",
    ".fif.gz": "fif",
    ".cnt": "cnt",
    ".raw": "egi-raw",
    ".sqd": "kit",
    ".con": "kit",
    ".data": "nicolet",
    ".eeg": "mne",
    ".nxe": "mne",
    ".cdt": "mne",
    ".dap": "mne",
    ".lay": "persyst",
    ".nedf": "mne",
    ".ns3": "mne",
    ".dat": "dat",
    ".bin": "fil",
}
"""Extensions of files that are, or lead, one recording."""

UNREADABLE: Mapping[str, str] = {
    **dict.fromkeys((".snirf", ".nirs", ".hdr", ".wl1", ".wl2"), "near-infrared spectroscopy"),
    **dict.fromkeys((".ns1", ".ns2", ".ns4", ".ns5", ".ns6", ".nev"), "Blackrock"),
    **dict.fromkeys((".ncs", ".nse", ".nvt"), "Neuralynx"),
    **dict.fromkeys((".rhd", ".rhs"), "Intan"),
    **dict.fromkeys((".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz"), "compressed; unpack it"),
    ".acq": "Biopac",
    ".asc": "eye tracking",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".mat": "MATLAB",
    ".nwb": "Neurodata Without Borders",
    ".plx": "Plexon",
    ".poly5": "TMSi",
    ".smr": "Spike2",
    ".trc": "Micromed",
    ".xdf": "Lab Streaming Layer",
}
"""Extensions of files that may be recordings and that no reader of emeg opens."""

COMPANIONS: Mapping[str, tuple[str, ...]] = {
    ".vhdr": (".eeg", ".dat", ".avg", ".vmrk"),
    ".ahdr": (".eeg", ".dat", ".amrk", ".avg", ".vmrk"),
    ".set": (".fdt",),
    ".data": (".head",),
    ".eeg": (".21e", ".pnt", ".log", ".11d", ".cmt", ".ftr", ".cn2"),
    ".cdt": (".cdt.dpa", ".cdt.dpo", ".cdt.cef", ".cdt.ceo"),
    ".dap": (".dat", ".rs3", ".cef", ".ceo"),
    ".lay": (".dat",),
    ".cnt": (".evt", ".seg"),
}
"""Extensions of files with the same stem that belong to the recording."""

_REFERENCES: Mapping[str, "re.Pattern[str]"] = {
    **dict.fromkeys((".vhdr", ".ahdr"), re.compile(r"^(?:DataFile|MarkerFile)\s*=\s*(.+?)\s*$", re.M | re.I)),
    ".lay": re.compile(r"^File\s*=\s*(.+?)\s*$", re.M | re.I),
}
"""Headers that name their data and marker files, and how."""

_DATA_EXTENSIONS = (".eeg", ".dat")
"""Data files of the headers above: without one of the same stem the header is read in a bucket, too."""

_ARTEMIS_HEADER = b"<start main header>"
"""Text of the header beside the data of an Artemis123, which has the extension ``.txt``."""

_DERIVED_FIF = re.compile(
    r"[-_](cov|ave|epo|evoked|eve|fwd|inv|trans|src|bem|bem-sol|ica|proj|tfr|head|sol|annot|crosstalk|calibration)"
    r"(-\d+)?$"
)
_MARKER_NAME = re.compile(r"(^|[-_.])(mrk|marker|markers)([-_.\d]|$)", re.IGNORECASE)
_KIT_COMPANION = re.compile(r"(^|[-_.])(mrk|marker|markers|elp|hsp|headshape)([-_.\d]|$)", re.IGNORECASE)
_BTI_PDF = re.compile(r"(^|[-_.])[ce],rf|(^|[-_.])pdf([-_.\d]|$)", re.IGNORECASE)
_BTI_CONFIG = re.compile(r"(^|[-_.])config([-_.\d]|$)", re.IGNORECASE)
_BTI_HEAD_SHAPE = re.compile(r"(^|[-_.])hs([-_.\d]|$)", re.IGNORECASE)
_BTI_EXTENSION = re.compile(r"\.(json|tsv|txt|md|html?|edf|bdf|gdf|fif|set|cnt|eeg|pdf)$", re.IGNORECASE)
_ENTITY = re.compile(r"(?:^|_)([a-z]+)-([A-Za-z0-9+]+)(?=_|\.|$)")


class Group(NamedTuple):
    """Files that are one recording: the leading path (a file or folder), its format, and all files."""

    lead: str
    format: str
    files: tuple[str, ...]
    problem: str = ""


def split_name(path: str) -> tuple[str, str]:
    """Return stem and lower-case extension; ``.fif.gz`` and ``.cdt.dpa`` count as one extension."""
    name = PurePosixPath(path).name
    for double in (".fif.gz", ".cdt.dpa", ".cdt.dpo", ".cdt.cef", ".cdt.ceo"):
        if name.lower().endswith(double):
            return name[: -len(double)], double
    suffix = PurePosixPath(path).suffix
    return name.removesuffix(suffix), suffix.lower()


def group_folder(paths: list[str], contents: Contents) -> list[Group]:
    """Find the recordings among the files of one folder, each with the files that its reader opens.

    Parameters
    ----------
    paths : list of str
        Sorted files of the folder itself, not of folders in it.
    contents : Contents
        Read only for headers that name their data files and for FIF files with numbered names.
    """
    groups = _bti(paths)
    used = {path for group in groups for path in group.files}
    by_name = {PurePosixPath(path).name.lower(): path for path in paths}
    companions = {path: _companions(path, by_name, contents) for path in paths}
    fif = [path for path in paths if _is_fif(path) and not _DERIVED_FIF.search(split_name(path)[0])]
    fif_parts = find_parts(fif, contents.ends)
    later = {path for parts in fif_parts.values() for path in parts.paths}
    accompanying = _accompanying(paths, by_name) | {path for files in companions.values() for path in files}
    leads = {
        path: format_
        for path in paths
        if path not in used | accompanying | later and (format_ := _format(path, by_name, contents)) is not None
    }
    for path, format_ in leads.items():
        parts = fif_parts.get(path, Parts())
        kit = [p for p in paths if format_ == "kit" and p not in leads and _KIT_COMPANION.search(PurePosixPath(p).name)]
        files = (
            path,
            *companions[path],
            *parts.paths,
            *_positions(path, format_, by_name),
            *_of_this_run(path, kit, [lead for lead in leads if leads[lead] == "kit"], _KIT_COMPANION),
        )
        groups.append(Group(path, format_, tuple(dict.fromkeys(files)), parts.problem))
    return groups


def _is_fif(path: str) -> bool:
    return split_name(path)[1] in {".fif", ".fif.gz"}


def _format(path: str, by_name: Mapping[str, str], contents: Contents) -> str | None:
    """Return the format of the recording that a file leads; `None` where it leads none."""
    stem, extension = split_name(path)
    if extension == ".bin":
        header = by_name.get(f"{stem}.txt".lower())
        if f"{stem}.json".lower() in by_name:
            return "fil"
        return "artemis123" if header is not None and _ARTEMIS_HEADER in contents.read(header) else None
    if extension == ".data" and f"{stem}.head".lower() not in by_name:
        return None
    if _is_fif(path) and _DERIVED_FIF.search(stem):
        return None
    return FILE_FORMATS.get(extension)


def _with_stem(path: str, by_name: Mapping[str, str]) -> list[str]:
    stem, extension = split_name(path)
    names = (f"{stem}{companion}".lower() for companion in COMPANIONS.get(extension, ()))
    return [by_name[name] for name in names if name in by_name]


def _positions(path: str, format_: str, by_name: Mapping[str, str]) -> list[str]:
    """Return the files beside a ``.bin`` file that its reader opens and that are no BIDS sidecars."""
    stem = split_name(path)[0]
    name = {"fil": f"{stem.removesuffix('_meg')}_positions.tsv", "artemis123": f"{stem}.txt"}.get(format_, "").lower()
    return [by_name[name]] if name in by_name else []


def _companions(path: str, by_name: Mapping[str, str], contents: Contents) -> list[str]:
    """Return a recording's files beside its lead: those that its header names, else those with its stem.

    In a bucket a header is read only where no data file has its stem, since each costs a request.
    """
    beside = _with_stem(path, by_name)
    extension = split_name(path)[1]
    reference = _REFERENCES.get(extension)
    if reference is None or (not contents.is_local and any(split_name(f)[1] in _DATA_EXTENSIONS for f in beside)):
        return beside
    wanted = [name.lower() for name in reference.findall(decode_text(contents.read(path)).text)]
    named = [by_name[name] for name in wanted if name in by_name]
    for kind in (True, False):  # marker files, data files: the header's replace those with its stem
        if any(_is_marker(file) == kind and file not in beside for file in named):
            beside = [file for file in beside if _is_marker(file) != kind or file in named]
    return [*beside, *(file for file in dict.fromkeys(named) if file not in beside)]


def _is_marker(path: str) -> bool:
    return split_name(path)[1] in {".vmrk", ".amrk"}


def _accompanying(paths: list[str], by_name: Mapping[str, str]) -> set[str]:
    """Return files that lead no recording because a file of the same stem does, or that only accompany others."""
    companions = {companion for path in paths for companion in _with_stem(path, by_name)}
    companions |= {path for path in paths if _is_marker(path) or split_name(path)[1] in {".fdt", ".head"}}
    return companions | {
        path
        for path in paths
        if split_name(path)[1] in {".sqd", ".mrk", ".con"} and _MARKER_NAME.search(PurePosixPath(path).name)
    }


def _of_this_run(lead: str, companions: Iterable[str], leads: list[str], words: "re.Pattern[str]") -> list[str]:
    """Return the companions that belong to one of several recordings in a folder, by BIDS entities or by name.

    A companion that names another run, or whose name begins with another recording's, belongs to that one; a companion
    that says nothing of a run belongs to all.
    """
    stems = {path: split_name(path)[0].lower() for path in leads}
    chosen = []
    for companion in companions:
        name = PurePosixPath(companion).name
        ours, theirs = dict(_ENTITY.findall(PurePosixPath(lead).name)), dict(_ENTITY.findall(name))
        if any(ours.get(entity, label) != label for entity, label in theirs.items()):
            continue
        begins = {path: stem for path, stem in stems.items() if _begins(name.lower(), stem)}
        longest = max(map(len, begins.values()), default=0)
        base = words.sub("", split_name(companion)[0]).lower()
        inside = {path for path, stem in stems.items() if base and _begins(stem, base)}
        owners = {path for path, stem in begins.items() if len(stem) == longest} or inside or set(leads)
        if lead in owners:
            chosen.append(companion)
    return chosen


def _begins(name: str, stem: str) -> bool:
    return name.startswith(stem) and not name[len(stem) : len(stem) + 1].isalnum()


def _bti(paths: list[str]) -> list[Group]:
    """Return 4D recordings: a data file without a known extension beside a ``config`` and, mostly, a head shape."""
    plain = [path for path in paths if not _BTI_EXTENSION.search(path)]
    names = {path: PurePosixPath(path).name for path in plain}
    configs = [path for path in plain if _BTI_CONFIG.search(names[path])]
    pdfs = [path for path in plain if _BTI_PDF.search(names[path]) and path not in configs]
    shapes = [path for path in plain if _BTI_HEAD_SHAPE.search(names[path]) and path not in {*configs, *pdfs}]
    if not configs:
        return []
    groups = []
    for pdf in pdfs:
        config = _of_this_run(pdf, configs, pdfs, _BTI_CONFIG) if len(configs) > 1 else configs
        shape = _of_this_run(pdf, shapes, pdfs, _BTI_HEAD_SHAPE) if len(shapes) > 1 else shapes
        problem = "" if len(config) == 1 else f"{len(config)} of {len(configs)} config files may be this recording's"
        groups.append(Group(pdf, "bti", (pdf, *config[:1], *shape[:1]), problem))
    return groups
