"""Public names of subjects and files, and texts without names and dates.

Labels that BIDS allows are pseudonyms that the authors of a dataset chose. With a key in the environment every subject
label becomes a keyed hash; without one, plain BIDS labels are kept unless they may be names, initials or hospital
numbers. Everything else that is no plain label, code or technical word is hashed
(`docs/decisions/0019-pseudonyms.md`).
"""

import hashlib
import hmac
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mne

KEY_VARIABLE = "EMEG_PSEUDONYM_KEY"
"""Environment variable with the secret that subject labels are hashed with."""

REMARK = "remark"
"""Replacement for the free text of an event."""

DIGITS = 16
"""Hexadecimal digits of a pseudonym."""

_DATE = re.compile(
    r"(?<!\d)(?:"
    r"(?:18|19|20)\d\d(?P<s>[-./:_ ])\d{1,2}(?P=s)\d{1,2}"
    r"|\d{1,2}(?P<t>[-./])\d{1,2}(?P=t)(?:(?:18|19|20)\d\d|\d\d)"
    r"|\d{1,2}[-. ](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-. ]\d{2,4}"
    r"|(?:18|19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{6,12})?"
    r"|(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])(?:19|20)\d\d"
    r")(?!\d)",
    re.IGNORECASE,
)
_LABEL, _INDEX = r"[A-Za-z0-9+]{1,40}", r"\d{1,6}"
_VALUES = {
    **dict.fromkeys(("run", "echo", "split", "flip", "inv", "chunk"), _INDEX),
    "hemi": "[LR]",
    "mt": "on|off",
    "part": "mag|phase|real|imag",
}
_LABELLED = """
    sub ses sample task tracksys acq nuc voi ce trc stain rec dir mod proc space recording seg res den label desc atlas
    scale
"""
ENTITIES = {**dict.fromkeys(_LABELLED.split(), _LABEL), **_VALUES}
"""Entities of BIDS 1.11 and the values that each may have, as regular expressions."""

_SUFFIXES_TEXT = """
    annotations beh bold channels coordsystem digitizer eeg electrodes events headshape ieeg markers meg mrk nirs
    optodes participants photo physio scans sessions stim t1w t2w
"""
_SUFFIXES = frozenset(_SUFFIXES_TEXT.split())
"""Last parts of BIDS names."""

_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_LONG_NUMBER = re.compile(r"(?<!\d)\d{7,}(?!\d)")
"""Hospital and insurance numbers; numbers of studies are shorter."""
_LETTERS = re.compile(r"(?:sub-)?((?:[A-Za-z][.\-_ ]?){2,3})")
_WITH_YEAR = re.compile(r"\b[A-Z]{2,4}-?(?:19|20)\d\d\b")
_CODE_OF_SUBJECT = re.compile(r"[A-Z]{1,4}-?\d{1,5}")
_HASHED = re.compile(rf"(?:sub-)?x[0-9a-f]{{{DIGITS}}}")
_EXTENSION = re.compile(r"(?:\.(?:gz|[A-Za-z][A-Za-z0-9]{0,7}))+$")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,80}")
_QUOTED = re.compile(r"""(?<![\w])b?(?P<q>['"])(?P<text>.{1,400}?)(?P=q)(?!\w)""")
_FILE = re.compile(
    r"[^\s'\":,;()]+/[^\s'\":,;()]+|[^\s'\",:;()/]+\.(?:edf|bdf|gdf|fif|vhdr|vmrk|eeg|set|fdt|tsv|json)\b"
)
_CODE = re.compile(r"[A-Za-z]{0,4}[ _-]*\d{1,5}|[A-Z]{1,2}[+-]?")
_WORDS = re.compile(r"[A-Za-zµμ]+|\d+|[^\x00-\x7f]+")
_VENDOR = re.compile(r"(?P<kind>stimulus|response|new segment|syncstatus|trigger|event|marker|comment)/", re.IGNORECASE)

_SAID = """
    a absent acc acq active alpha amplitude and annotation annotations ant anterior arithmetic artifact artefact at
    audio
    auditory average avg axial bad baseline be beep begin beta bids bipolar biosemi blink blinks block boundary brain
    brainvision break breaks bti button bv calibration calm cap channel channels clean clip clipped close closed cnt
    contact contacts dbs ecog ieeg seeg
    code coil condition continuous control coordsystem count counts cross crosstalk ctf cue cut data delta demo
    derivative device
    devices ds duplicate duplicates dry duke ear easy edf edge eeg eeglab egi electrode electrodes emg empty emptyroom
    end eog epoch error event events ex exp experiment extra eye eyes face faces familiar famous feedback feet fif file
    files finger first fist fists fix fixation flash flat foot frequency frame from full gamma gdf go gtec halt hand
    hands hard head header high hpi ica id imagery imagined in input intervals is kit label left letter letters level
    lfp light line list listening long low m mag mains marker markers math meg memory meta mff mixed mm mono motor
    movement movements music muscle n name names nasion neuromag new nicolet no nogo noise non not odd oddball of off
    old on one opm open out output overlapping part patch pause photo picture pre press presentation probe
    program raw read reading readme real record recording rec recall reference rejected rem response rest resting
    right room run sample samples scan scans sd seconds second seg segment segments seizure sensor ses session sessions
    set short side signal single size sleep song sound speech split spindle ssvep stage standard start state status
    step stim stimulation stimuli stimulus stop story sub subj subject subjects switch sync system t target task tasks
    test theta time tiny to tone tongue touch trial trials triggers trigger two type unfamiliar unit units unknown
    visual
    voice
    volume w wake waveguard with word words wrong x y yes z zero
    hz khz mhz v uv nv mv ft pt s ms
    cerca bci biosig companion companions truncated reader lost missing good broken source sources fdt
    newline translated vhdr vmrk tsv json txt archive folder float int str utf ascii codec base bit bytes stimuli
    closing opening unknown value values
"""

TECHNICAL = frozenset(_SAID.split())
"""Words of formats, devices, tasks and markers, which do not identify a person."""

_ROLES = """
    adult adults case cases child children con control controls ctrl ernoise group healthy hc infant infants older
    participant participants pat patient patients phantom pilot pilots sham sub subj subject subjects test volunteer
    young younger
"""

ROLES = frozenset(_ROLES.split())
"""Words of subjects' labels that describe a role in a study, not a person."""


_STATES = frozenset({"ec", "eo", "md", "hv", "eog", "ecg", "ref", "rs", "vep", "aep", "sep", "erp", "mmn", "p3"})
"""Short words for states and stimuli that are no initials."""


@dataclass(frozen=True)
class Pseudonyms:
    """Public names of subjects and files.

    Parameters
    ----------
    key : bytes
        Secret; empty where none is given: plain BIDS labels are kept then.
    """

    key: bytes = b""

    @classmethod
    def from_environment(cls) -> "Pseudonyms":
        """Create pseudonyms with the key in `KEY_VARIABLE`."""
        return cls(os.environ.get(KEY_VARIABLE, "").encode())

    def digest(self, text: str) -> str:
        """Hash a text: HMAC-SHA-256 with the key, plain SHA-256 without; the same text gives the same digits."""
        message = f"emeg:{text}".encode(errors="surrogatepass")
        found = hmac.new(self.key, message, hashlib.sha256) if self.key else hashlib.sha256(message)
        return found.hexdigest()[:DIGITS]

    def subject(self, label: str) -> str:
        """Name a person: keyed where there is a key; else a plain label stays, and anything else is hashed."""
        if self.key:
            return f"sub-{self.digest(label)}"
        plain = (_SUBJECT.fullmatch(label) or _CODE_OF_SUBJECT.fullmatch(label)) and not _DATE.search(label)
        plain = plain and not looks_like_a_name(label.removeprefix("sub-"))
        identifies = _LONG_NUMBER.search(label) or looks_like_initials(label) or _WITH_YEAR.fullmatch(label)
        return label if (plain or is_technical(label)) and not identifies else f"sub-x{self.digest(label)}"

    @property
    def told(self) -> str:
        """Description of how subjects are named, for the result of an ingest."""
        if self.key:
            return f"keyed ({KEY_VARIABLE})"
        return f"labels of the archive, what looks like a name hashed; no key in {KEY_VARIABLE}: hashes can be guessed"

    def label(self, label: str) -> str:
        """Name a session, task, run or acquisition: labels as BIDS has them stay, dates and free text are hashed."""
        return label if _plain_label(label) else f"x{self.digest(label)}"

    def index(self, label: str) -> str:
        """Name a run: BIDS has numbers there."""
        plain = re.fullmatch(_INDEX, label) and not _DATE.search(label)
        return label if plain or not label else f"x{self.digest(label)}"

    def path(self, path: str, person: str | None = None) -> str:
        """Name a file of an archive: BIDS names with public labels; other parts by their hash, extension kept.

        Parameters
        ----------
        path : str
        person : str, optional
            Label of the person in the archive. Where it is known and there is no key, words in small letters stay
            unless they are the person's: a reader of a refusal must find the file.
        """
        return "/".join(self.part(part, person) for part in path.split("/"))

    def part(self, part: str, person: str | None = None) -> str:
        """Name one folder or file; see `path`."""
        extension = found.group() if (found := _EXTENSION.search(part)) and found.start() > 0 else ""
        stem = part.removesuffix(extension) if extension else part
        if _HASHED.fullmatch(stem):
            return part
        pieces = stem.split("_")
        if is_entity(pieces[0]):
            return "_".join(self._piece(piece) for piece in pieces) + extension
        if self.key and not is_technical(stem, names=False):
            return f"x{self.digest(stem)}{extension}"
        named = person is not None and not self._says_nothing_of(person, stem)
        if (is_technical(stem) and not has_initials(stem)) or (person is not None and not named):
            return part
        return f"x{self.digest(stem)}{extension}"

    def _says_nothing_of(self, person: str, stem: str) -> bool:
        """Return whether a file name has technical words and words in small letters only, none of them the person's."""
        others = [word for word in _WORDS.findall(stem) if word.lower() not in TECHNICAL and not word.isdigit()]
        hers = {word.lower() for word in _WORDS.findall(person)} if self.subject(person) != person else set()
        plain = _PLAIN_NAME.fullmatch(stem) is not None and not _DATE.search(stem) and not _LONG_NUMBER.search(stem)
        plain = plain and not has_initials(stem)
        return plain and all(word.islower() and word not in hers for word in others)

    def _piece(self, piece: str) -> str:
        if _SUBJECT.fullmatch(piece):
            return self.subject(piece)
        if is_entity(piece):
            kind, _, label = piece.partition("-")
            return f"{kind}-{label if kind in _VALUES and not _DATE.search(label) else self.label(label)}"
        plain = piece.lower() in _SUFFIXES or (is_technical(piece, names=not self.key) and not has_initials(piece))
        return piece if plain or not piece else f"x{self.digest(piece)}"

    def hidden(self, paths: Iterable[str], person: str | None = None) -> tuple[tuple[str, str], ...]:
        """List what must be replaced in texts about these files of a person, and by what; the longest first."""
        pairs: dict[str, str] = {}
        for path in paths:
            for part in (path, *path.split("/")):
                public = self.path(part, person)
                if public != part:
                    pairs[part] = public
            for piece in re.split(r"[/_]", path):
                if _SUBJECT.fullmatch(piece) and self.subject(piece) != piece:
                    pairs[piece] = self.subject(piece)
        return tuple(sorted(pairs.items(), key=lambda pair: (-len(pair[0]), pair[0])))


def is_entity(piece: str) -> bool:
    """Return whether a part of a name is an entity of BIDS with a value that BIDS allows there."""
    name, dash, value = piece.partition("-")
    return bool(dash) and name in ENTITIES and re.fullmatch(ENTITIES[name], value) is not None


def looks_like_initials(label: str) -> bool:
    """Return whether a subject's label may be initials: two or three letters that are no technical word or role."""
    found = _LETTERS.fullmatch(label)
    letters = re.sub(r"[^a-z]", "", found[1].lower()) if found is not None else ""
    return bool(letters) and letters not in TECHNICAL | ROLES | _STATES


def has_initials(stem: str) -> bool:
    """Return whether a name of a file or folder has initials in it: two or three capitals of no known meaning."""
    words = re.findall(r"(?<![A-Za-z0-9])[A-Z]{2,3}(?![A-Za-z0-9])", stem.replace("_", " "))
    spaced = re.search(r"(?<![A-Za-z0-9])(?:[A-Z]\.){2,3}", stem)
    whole = looks_like_initials(stem) or _WITH_YEAR.search(stem)
    return bool(whole) or bool(spaced) or any(word.lower() not in TECHNICAL | ROLES | _STATES for word in words)


def is_technical(text: str, *, names: bool = True) -> bool:
    """Return whether a text consists of technical words, codes and numbers only, and holds no date.

    With `names` false, codes that may stand for a person (``S001``) do not pass either.
    """
    if _DATE.search(text):
        return False
    words = _WORDS.findall(text)
    for word in words:
        if word.isdigit():
            if len(word) > 5 or not names:
                return False
        elif word.lower() not in TECHNICAL and not (names and len(word) <= 2 and word.isascii()):
            return False
    return True


def looks_like_a_name(label: str) -> bool:
    """Return whether a subject's label may be a name: a word of three letters and at most one digit, or a year.

    ``anna``, ``AnnaSchmidt2`` and ``schmidt1961`` may be; ``01``, ``xp101``, ``mind002``, ``NDARAB793GL3`` and
    ``MDD1`` are codes. Capitals begin a new word; technical words and `ROLES` are no names.
    """
    words = re.findall(r"[A-Z]?[a-z]{2,}|[A-Z]{3,}", label)
    odd = [word for word in words if len(word) >= 3 and word.lower() not in TECHNICAL | ROLES]
    digits = re.findall(r"\d+", label)
    year = len(digits) == 1 and re.fullmatch(r"(?:19|20)\d\d", digits[0]) is not None
    few = sum(map(len, digits)) < 2 and not _CODE_OF_SUBJECT.fullmatch(label)
    return bool(odd) and (few or year)


def _plain_label(label: str) -> bool:
    return (
        re.fullmatch(r"[A-Za-z0-9+]{0,40}", label) is not None
        and not _DATE.search(label)
        and not _LONG_NUMBER.search(label)
    )


def markers(texts: Sequence[str]) -> list[str]:
    """Return the texts of a recording's events: markers as they are, remarks of people as `REMARK`.

    A marker is a code (``S  1``, ``T0``), made of technical words, or said three times at least: what was typed by hand
    about a person is not repeated word for word. A text with a date in it is never one.
    """
    counts = Counter(texts)
    return [text if _is_marker(text, counts[text]) else REMARK for text in texts]


def _is_marker(text: str, count: int) -> bool:
    if _DATE.search(text):
        return False
    rest = _VENDOR.sub("", text, count=1).strip()
    return bool(_CODE.fullmatch(rest)) or is_technical(rest) or (count >= 3 and len(text) <= 40)


def has_date(text: str) -> bool:
    """Return whether a text contains a date."""
    return _DATE.search(text) is not None


def without_dates(text: str) -> str:
    """Replace every date by a dash of its own."""
    return _DATE.sub("(date)", text)


def without_quotes(text: str, keep: Iterable[str] = ()) -> str:
    """Replace what a message quotes from a file, unless it is technical or one of `keep`."""
    kept = tuple(keep)

    def public(match: re.Match[str]) -> str:
        quoted = match["text"]
        fine = (
            is_technical(quoted)
            or (_FILE.fullmatch(quoted) and not quoted.isdigit())
            or any(name in quoted for name in kept)
        )
        return match[0] if fine else f"{match['q']}…{match['q']}"

    return _QUOTED.sub(public, text)


def scrub(text: str, hidden: Iterable[tuple[str, str]], secrets: Iterable[str] = ()) -> str:
    """Make a message public: file names by their public ones, header texts and dates gone.

    Parameters
    ----------
    text : str
    hidden : pairs of str
        `Pseudonyms.hidden` of the files that it is about.
    secrets : iterable of str
        Texts of the header (`header_texts`).
    """
    for private, public in hidden:
        word = rf"(?<![A-Za-z0-9]){re.escape(private)}(?![A-Za-z0-9])"
        text = re.sub(word, public.replace("\\", r"\\"), text)
    for secret in secrets:
        text = text.replace(secret, "…")
    return without_dates(_FILE.sub(lambda match: _public_file(match[0]), text))


def _public_file(name: str) -> str:
    if name.startswith(("http:", "https:", "s3:", "anonymous:")):
        return name
    clean = PurePosixPath(name.rstrip(".:"))
    if all(is_technical(part) or len(part) < 4 or Pseudonyms().part(part) == part for part in clean.parts):
        return name
    return name if re.fullmatch(r"[^/]{1,6}/[^/]{1,6}|[A-Za-z]+/[A-Za-z]+", name) else Pseudonyms().path(name)


def header_texts(info: "mne.Info") -> tuple[str, ...]:
    """Collect the texts of a header that may name a person or a place, longest first."""
    found: set[str] = set()
    for key in ("subject_info", "device_info", "helium_info"):
        fields = info.get(key) or {}
        found.update(str(value) for value in fields.values() if isinstance(value, str))
    found.update(str(info.get(key) or "") for key in ("experimenter", "description", "proj_name"))
    # readers also quote parts of a field: KIT's system, model and comment stand together in the description
    found.update(word for text in tuple(found) for word in re.findall(r"[^\W\d_]{4,}", text))
    return tuple(
        sorted((text for text in found if len(text) >= 3 and not is_technical(text)), key=lambda t: (-len(t), t))
    )
