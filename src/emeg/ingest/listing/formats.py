"""Which files are recordings, and which files or folders belong to one recording.

A format is named for its reader (`emeg.ingest.readers.opening`). Where several formats share an extension, the first
bytes of the file decide when it is read.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

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
    ".dat": "dat",
    ".bin": "fil",
}
"""Extensions of files that are, or lead, one recording."""

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

REQUIRED_COMPANION: Mapping[str, str] = {".data": ".head", ".bin": ".json"}
"""Without this companion the extension means something else and the file is left aside."""

_DERIVED_FIF = re.compile(
    r"[-_](cov|ave|epo|evoked|eve|fwd|inv|trans|src|bem|bem-sol|ica|proj|tfr|head|sol|annot|crosstalk|calibration)$"
)
_FIF_PART = re.compile(r"^(?P<base>.+)-(?P<part>[1-9]\d*)$")
_MARKER_NAME = re.compile(r"(^|[-_.])(mrk|marker|markers)([-_.\d]|$)", re.IGNORECASE)
_KIT_COMPANION = re.compile(r"(^|[-_.])(mrk|marker|markers|elp|hsp|headshape)([-_.\d]|$)", re.IGNORECASE)
_BTI_PDF = re.compile(r"^[ce],rf|(^|[-_.])pdf([-_.\d]|$)", re.IGNORECASE)
_BTI_CONFIG = re.compile(r"(^|[-_.])config([-_.\d]|$)", re.IGNORECASE)
_BTI_HEAD_SHAPE = re.compile(r"(^|[-_.])hs([-_.\d]|$)", re.IGNORECASE)
_BTI_EXTENSION = re.compile(r"\.(json|tsv|txt|md|html?|edf|bdf|gdf|fif|set|cnt|eeg|pdf)$", re.IGNORECASE)


class Group(NamedTuple):
    """Files that are one recording: the leading path (a file or folder), its format, and all files."""

    lead: str
    format: str
    files: tuple[str, ...]
    problem: str = ""


def split_name(path: str) -> tuple[str, str]:
    """Stem and extension in lower case; ``.fif.gz`` and ``.cdt.dpa`` count as one extension."""
    name = PurePosixPath(path).name
    for double in (".fif.gz", ".cdt.dpa", ".cdt.dpo", ".cdt.cef", ".cdt.ceo"):
        if name.lower().endswith(double):
            return name[: -len(double)], double
    suffix = PurePosixPath(path).suffix
    return name.removesuffix(suffix), suffix.lower()


def group_folder(paths: list[str], read: Callable[[str], bytes]) -> tuple[list[Group], set[str]]:
    """Find the recordings among the files of one folder.

    Parameters
    ----------
    paths : list of str
        Sorted files of the folder itself, not of folders in it.
    read : callable
        Gives a file's bytes; asked only for BrainVision headers without a data file of the same stem.

    Returns
    -------
    groups, used
        The recordings, and every path that belongs to one.
    """
    groups = _bti(paths)
    used = {path for group in groups for path in group.files}
    by_name = {PurePosixPath(path).name.lower(): path for path in paths}
    named = _brainvision_files(paths, by_name, read)
    companions = _accompanying(paths, by_name) | {path for files in named.values() for path in files}
    for path in paths:
        stem, extension = split_name(path)
        format_ = FILE_FORMATS.get(extension)
        if path in used or path in companions or format_ is None or _left_aside(stem, extension, by_name):
            continue
        files = [path, *_with_stem(stem, extension, by_name), *named.get(path, ())]
        problem = ""
        if format_ == "fif":
            parts, problem = _fif_parts(path, paths)
            files = [path, *parts]
        elif format_ == "fil":
            positions = f"{stem.removesuffix('_meg')}_positions.tsv".lower()
            files += [by_name[positions]] if positions in by_name else []
        elif format_ == "kit":
            files += [p for p in paths if p != path and _KIT_COMPANION.search(PurePosixPath(p).name)]
        groups.append(Group(path, format_, tuple(dict.fromkeys(files)), problem))
        used.update(files)
    return groups, used | companions


def _with_stem(stem: str, extension: str, by_name: Mapping[str, str]) -> list[str]:
    names = (f"{stem}{companion}".lower() for companion in COMPANIONS.get(extension, ()))
    return [by_name[name] for name in names if name in by_name]


def _brainvision_files(
    paths: list[str], by_name: Mapping[str, str], read: Callable[[str], bytes]
) -> dict[str, list[str]]:
    """List data and marker files that a BrainVision header names where none has its stem (a renamed header)."""
    named = {}
    for path in paths:
        stem, extension = split_name(path)
        if extension in {".vhdr", ".ahdr"} and not {f"{stem}{e}".lower() for e in (".eeg", ".dat")} & by_name.keys():
            text = decode_text(read(path)).text
            wanted = re.findall(r"^(?:DataFile|MarkerFile)\s*=\s*(.+?)\s*$", text, re.MULTILINE | re.IGNORECASE)
            named[path] = [by_name[name.lower()] for name in wanted if name.lower() in by_name]
    return named


def _accompanying(paths: list[str], by_name: Mapping[str, str]) -> set[str]:
    """Files that lead no recording because a file of the same stem does, or that only accompany others."""
    companions = {c for path in paths for c in _with_stem(*split_name(path), by_name)}
    companions |= {path for path in paths if split_name(path)[1] in {".vmrk", ".amrk", ".fdt", ".head"}}
    return companions | {
        path
        for path in paths
        if split_name(path)[1] in {".sqd", ".mrk", ".con"} and _MARKER_NAME.search(PurePosixPath(path).name)
    }


def _left_aside(stem: str, extension: str, by_name: Mapping[str, str]) -> bool:
    required = REQUIRED_COMPANION.get(extension)
    if required is not None and f"{stem}{required}".lower() not in by_name:
        return True
    return extension in {".fif", ".fif.gz"} and (
        _DERIVED_FIF.search(stem) is not None or _is_later_part(stem, extension, by_name)
    )


def _is_later_part(stem: str, extension: str, by_name: Mapping[str, str]) -> bool:
    match = _FIF_PART.match(stem)
    if match and f"{match['base']}{extension}".lower() in by_name:
        return True
    split = re.search(r"(?<=_split-)(\d+)", stem)
    if split is None or int(split[0]) <= 1:
        return False
    first = stem[: split.start()] + "1".zfill(len(split[0])) + stem[split.end() :]
    return f"{first}{extension}".lower() in by_name


def _fif_parts(path: str, paths: list[str]) -> tuple[list[str], str]:
    """Later parts of a split file, in order, and what is wrong with the set of names."""
    stem, extension = split_name(path)
    split = re.search(r"(?<=_split-)(\d+)", stem)
    if split is not None:
        if int(split[0]) > 1:
            return [], f"this is part {int(split[0])} of a split recording and the first part is absent"
        pattern = re.compile(
            re.escape(stem[: split.start()]) + r"(\d+)" + re.escape(stem[split.end() :] + extension), re.IGNORECASE
        )
    else:
        pattern = re.compile(re.escape(stem) + r"-([1-9]\d*)" + re.escape(extension), re.IGNORECASE)
    found = [(int(match[1]), p) for p in paths if p != path and (match := pattern.fullmatch(PurePosixPath(p).name))]
    return [p for _, p in sorted(found)], ""


def _bti(paths: list[str]) -> list[Group]:
    """4D/BTi: a data file without a known extension beside a ``config`` and, mostly, a head shape."""
    plain = [path for path in paths if not _BTI_EXTENSION.search(path)]
    names = {path: PurePosixPath(path).name for path in plain}
    configs = [path for path in plain if _BTI_CONFIG.search(names[path])]
    pdfs = [path for path in plain if _BTI_PDF.search(names[path]) and path not in configs]
    shapes = [path for path in plain if _BTI_HEAD_SHAPE.search(names[path]) and path not in {*configs, *pdfs}]
    if len(configs) != 1:
        return []
    return [Group(pdf, "bti", (pdf, configs[0], *shapes[:1])) for pdf in pdfs]
