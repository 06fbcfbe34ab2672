"""Rules that decide which columns and cells of a subject table may be kept.

A column is dropped by its name (names, dates of birth, addresses, identifiers, remarks) or by its values (free text,
numbers that identify). In the columns that are kept, single cells that may name a person are emptied. A column that a
rule drops by its values is kept where ``participants.json`` declares its levels or its unit. See
`docs/decisions/0046-subject-tables.md`.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from emeg.ingest.pseudonyms import ROLES, has_date, is_technical

Cells = Mapping[str, Sequence[str]]
"""Values of one column by subject; absent ones left out."""

_ALWAYS_TEXT = """
    address anschrift birthdate birthday born city comment comments contact date dates datetime dob doctor email
    examiner experimenter fax firstname forename freetext fullname geburtsdatum guid guardian hospital
    hospitalnumber initials insurance interviewer investigator kin lastname mail mobile mrn nachname nhs
    nickname note notes nurse operator passport patientid phone photo physician postal postcode rater referrer
    remark remarks ssn street surname technician telephone timestamp town url uuid vorname yob zip zipcode
"""

_ALWAYS = frozenset(_ALWAYS_TEXT.split())
"""Words of a column's name that make it private."""

_NAME_OF_TEXT = """
    first last family given full middle maiden nick person patient subject participant name s
"""

_NAME_OF = frozenset(_NAME_OF_TEXT.split())
"""Words that make ``name`` the name of a person; ``medication_name`` is none."""

_ID_OF_TEXT = """
    patient hospital subject person medical record case original source old national nda study
"""

_ID_OF = frozenset(_ID_OF_TEXT.split())
"""Words that make ``id`` or ``number`` an identifier of a person."""

_BIRTH_OF_TEXT = """
    date day year month place country time of
"""

_BIRTH_OF = frozenset(_BIRTH_OF_TEXT.split())
"""Words that make ``birth`` private; ``birth_weight`` is kept."""

_LABELS_TEXT = """
    age arm category class cohort condition control diagnosis disease dominance dx education gender group groups
    hand handedness label laterality medication outcome pathology patient population response sex site species
    status strain subtype syndrome treatment type vision
"""

_LABELS = frozenset(_LABELS_TEXT.split())
"""Words of the names of columns that hold a class; their values stay unless they may name a person."""

_ACQUISITION_TIMES = frozenset({"acq_time", "acq time", "acquisition_time"})

_CLASSES_TEXT = """
    abnormal absent active ad adhd adult alcohol als alzheimer alzheimers ambidextrous amputee anxiety aphasia
    asd ataxia autism autistic bilingual bipolar blind bpd cerebral coma concussion cn cognitive dementia
    depressed depression depressive developmental disease disorder drug dyslexia dyslexic dystonia eo ec
    epilepsy epileptic essential female focal frontotemporal ftd generalized generalised hallucinations hc high
    impaired impairment insomnia left lewy lesion low male man mci md mdd medicated mild minimal moderate ms
    multiple mutism naive narcolepsy neurotypical none normal obsessive ocd off on other pain palsy parkinson
    parkinsons parkinsonian patient pd placebo post pre primary psychosis psychotic ptsd remission resting right
    rbd schizo schizophrenia schizophrenic sclerosis scz sedated severe sex sham stroke subjective tbi temporal
    tinnitus traumatic treated tremor typical unmedicated untreated vegetative verum woman yes no true false
"""

_WORDS_OF_CLASSES = ROLES | frozenset(_CLASSES_TEXT.split())
"""Words of classes that name nobody."""

_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TITLE = re.compile(r"\b(?:dr|prof|mr|mrs|ms|frau|herr|mme)\b\.?\s+\S", re.IGNORECASE)
_CONTACT = re.compile(r"@|https?:|(?:\d[\s/().-]?){7,}")
_INITIALS = re.compile(r"(?:[A-Z]\.\s?){1,3}[A-Za-z]*|[A-Z][a-z]+,\s?[A-Z].*")

LONGEST_VALUE = 60
"""Characters of a cell from which it is free text."""

IDENTIFIER_DIGITS = 5
"""Digits of whole numbers, all different, that identify people."""


class Ruling(NamedTuple):
    """What may be kept of a column; `reason` says why it is dropped, empty where it is kept."""

    reason: str
    hidden: frozenset[str] = frozenset()
    """Values that are emptied in a column that is kept."""


def rule_on_name(name: str) -> str:
    """Return why a column is private by its name; empty where it is not."""
    words = _words(name)
    joined = "".join(words)
    if name.lower() in _ACQUISITION_TIMES:
        return "a date or time of day"
    if set(words) & _ALWAYS or joined in _ALWAYS:
        return "private by its name"
    if ("name" in words or "names" in words) and set(words) - {"names"} <= _NAME_OF:
        return "names of people"
    if set(words) & {"id", "ids", "number", "no", "code", "identifier"} and set(words) & _ID_OF:
        return "identifies people"
    if "birth" in words and (len(words) == 1 or set(words) & _BIRTH_OF):
        return "birth of people"
    return ""


def rule_on_values(name: str, cells: Cells, *, levels: frozenset[str], has_unit: bool) -> Ruling:
    """Decide on a column that is not private by its name.

    Parameters
    ----------
    name : str
        Name of the column.
    cells : mapping
        Its values by subject.
    levels : frozenset of str
        Values that the table's JSON file declares.
    has_unit : bool
        Whether the JSON file states a unit, so that the column is a measurement.
    """
    values = Counter(value for one in cells.values() for value in set(one))
    if not values:
        return Ruling("no values")
    if all(map(_is_number, values)):
        return Ruling("" if has_unit or levels else _identifying_numbers(values))
    unknown = {value for value in values if value not in levels and not _is_number(value)}
    private = frozenset(value for value in unknown if _may_name(value))
    if levels:
        return Ruling("", private | {value for value in unknown if not _is_class(value)})
    if len(values) == len(cells) > 2:
        return Ruling("another value for everybody")
    if set(_words(name)) & _LABELS:
        return Ruling("", private | {value for value in unknown if values[value] < 2 and not _is_class(value)})
    odd = sorted(value for value in unknown if not _is_class(value))
    if odd or private:
        return Ruling("text that is not declared as levels")
    return Ruling("")


def _identifying_numbers(values: Counter[str]) -> str:
    if any(has_date(value) for value in values):
        return "dates"
    if all(re.fullmatch(r"(?:19|20)\d\d", value) for value in values):
        return "years, perhaps of birth"
    long = [value for value in values if value.isdigit() and len(value) >= IDENTIFIER_DIGITS]
    return "numbers that identify people" if long and len(long) == len(values) and max(values.values()) == 1 else ""


def _may_name(value: str) -> bool:
    """Return whether a value may name a person: a date, a contact, a title, initials, or words in capitals."""
    if len(value) > LONGEST_VALUE or has_date(value) or _TITLE.search(value) or _CONTACT.search(value):
        return True
    if _INITIALS.fullmatch(value):
        return True
    capital = [word for word in _WORD.findall(value) if word[0].isupper() and len(word) > 2 and not _known(word)]
    return len(capital) > 1 or bool(re.search(r"\d{6,}", value))


def _is_class(value: str) -> bool:
    """Return whether a value is a class by its words alone: technical words, roles, diagnoses, short codes."""
    words = _WORD.findall(value)
    return is_technical(value) or (bool(words) and all(map(_known, words)) and not re.search(r"\d{6,}", value))


def _known(word: str) -> bool:
    return len(word) == 1 or word.lower() in _WORDS_OF_CLASSES or is_technical(word, names=False)


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?\+?", value) is not None


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", _CAMEL.sub("_", name).lower()) if word]
