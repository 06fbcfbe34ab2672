"""Path tricks: odd names, links, folders for files."""

import os
import unicodedata
from pathlib import Path

from tests.ingest.faults.corpus import Ready, Refused, fault
from tests.ingest.faults.intact import FOLDER, STEM, put


def _named(archive: Path, stem: str, kind: str = "edf") -> None:
    put(archive, kind, stem=stem)


@fault({f"{FOLDER}/a name with  spaces.vhdr": Ready()})
def name_with_spaces(archive: Path) -> None:
    _named(archive, "a name with  spaces", "vhdr")


@fault({f"{FOLDER}/two\nlines.edf": Ready()})
def name_with_a_line_break(archive: Path) -> None:
    _named(archive, "two\nlines")


@fault({f"{FOLDER}/{'x' * 251}.edf": Ready()})
def name_as_long_as_the_system_admits(archive: Path) -> None:
    _named(archive, "x" * 251)


@fault({f"{FOLDER}/-rf *;$(echo).edf": Ready()})
def name_that_a_shell_would_take_for_a_command(archive: Path) -> None:
    _named(archive, "-rf *;$(echo)")


@fault({f"{FOLDER}/{unicodedata.normalize('NFC', 'für')}.vhdr": Ready()})
def name_with_an_umlaut(archive: Path) -> None:
    _named(archive, unicodedata.normalize("NFC", "für"), "vhdr")


NFC, NFD = (unicodedata.normalize(form, "für") for form in ("NFC", "NFD"))


@fault({f"{FOLDER}/{NFD}.vhdr": Refused("beside it", more=("absent",))})
def name_composed_in_the_header_and_decomposed_on_disk(archive: Path) -> None:
    """As in copies from macOS."""
    path = put(archive, "vhdr", stem=NFD)
    path.write_text(path.read_text().replace(NFD, NFC), encoding="utf-8")


@fault({f"{FOLDER}/test.vhdr": Refused("beside it", more=("absent",))})
def name_in_capitals_in_the_header_alone(archive: Path) -> None:
    path = put(archive, "vhdr", stem="test")
    path.write_text(path.read_text().replace("test.eeg", "TEST.EEG"))


@fault({f"{FOLDER}/{STEM}.EDF": Ready()})
def extension_in_capitals(archive: Path) -> None:
    path = put(archive, "edf")
    path.rename(path.with_suffix(".EDF"))


@fault({})
def name_that_is_no_text(archive: Path) -> None:
    """The catalogue cannot hold names that are not UTF-8; the file is counted as skipped."""
    path = put(archive, "edf")
    os.rename(os.fsencode(path), os.fsencode(path.parent) + b"/caf\xe9.edf")  # noqa: PTH104 - a name in bytes


@fault({f"{FOLDER}/{STEM}.edf": Ready()})
def folder_linked_into_itself(archive: Path) -> None:
    put(archive, "edf")
    (archive / FOLDER / "again").symlink_to(archive, target_is_directory=True)


@fault({f"{FOLDER}/{STEM}.edf": Ready(), f"{FOLDER}/sub-01_task-loop_eeg.edf": Refused("link")})
def file_linked_to_itself(archive: Path) -> None:
    put(archive, "edf")
    loop = archive / FOLDER / "sub-01_task-loop_eeg.edf"
    loop.symlink_to(loop)


@fault(Refused("link", more=("git-annex",)))
def link_to_nothing(archive: Path) -> None:
    """As in a clone whose files were never fetched."""
    (archive / FOLDER).mkdir(parents=True)
    (archive / FOLDER / f"{STEM}.edf").symlink_to("../../.git/annex/objects/XX/MD5E-s1--0.edf")


@fault(Refused("link", file="sub-01_task-rest_eeg.json"))
def sidecar_linked_to_nothing(archive: Path) -> None:
    put(archive, "edf")
    (archive / FOLDER / f"{STEM}.json").symlink_to("../../.git/annex/objects/XX/MD5E-s1--0.json")


@fault(Refused("link", more=(f"{STEM}.eeg",)), extension="vhdr")
def data_file_linked_to_nothing(archive: Path) -> None:
    data = put(archive, "vhdr").with_suffix(".eeg")
    data.unlink()
    data.symlink_to("../../.git/annex/objects/XX/MD5E-s1--0.eeg")


@fault(Ready())
def file_linked_from_elsewhere(archive: Path) -> None:
    """As in a clone whose files were fetched."""
    elsewhere = put(archive.parent / "elsewhere", "edf")
    (archive / FOLDER).mkdir(parents=True)
    (archive / FOLDER / f"{STEM}.edf").symlink_to(elsewhere)


@fault({f"{FOLDER}/{STEM}.edf": Ready()})
def folder_named_like_a_file(archive: Path) -> None:
    put(archive, "edf")
    (archive / FOLDER / "sub-01_task-other_eeg.edf").mkdir()


@fault({f"{FOLDER}/sub-01_task-rest_meg.ds": Refused("sub-01_task-rest_meg.ds")})
def folder_of_a_recording_without_its_data(archive: Path) -> None:
    (archive / FOLDER / "sub-01_task-rest_meg.ds").mkdir(parents=True)
    (archive / FOLDER / "sub-01_task-rest_meg.ds/params.dsc").write_text("x")


@fault({f"{FOLDER}/{STEM}.mff": Refused(f"{STEM}.mff")})
def folder_of_a_net_without_its_signal(archive: Path) -> None:
    (archive / FOLDER / f"{STEM}.mff").mkdir(parents=True)
    (archive / FOLDER / f"{STEM}.mff/info.xml").write_text("<fileInfo/>")


@fault({})
def file_named_like_a_folder(archive: Path) -> None:
    (archive / FOLDER).mkdir(parents=True)
    (archive / FOLDER / "sub-01_task-rest_meg.ds").write_text("x")


@fault(Ready())
def file_that_nobody_may_write(archive: Path) -> None:
    put(archive, "edf").chmod(0o444)


@fault({})
def archive_without_a_file(archive: Path) -> None:
    archive.mkdir(parents=True, exist_ok=True)
