"""The quality page: numbers against planted faults, pictures pixel by pixel, no downloads, nothing computed twice."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.browser import open_browser
from tests.messages import refusal

from emeg.curation import WithdrawConfig, withdraw
from emeg.errors import UserError
from emeg.reports import QualityConfig, quality
from emeg.reports.quality_plots import REASON_COLOURS, first_reason, heat_map, reasons_over_recordings
from emeg.reports.sections.archive import quarantine_section
from emeg.sensors import Sensors
from emeg.store import (
    BadReason,
    CatalogRow,
    QuarantineRecord,
    RecordingAttributes,
    Store,
    VerifyConfig,
    publish_row,
    quarantine,
    verify,
    write_recording,
)

CHANNELS, SECONDS = 10, 20


def sensors() -> Sensors:
    angle = np.linspace(0, np.pi, CHANNELS)
    return Sensors(
        names=tuple(f"E{i}" for i in range(CHANNELS)),
        types=np.zeros(CHANNELS, np.int8),
        units=("V",) * CHANNELS,
        positions=0.09 * np.stack([np.cos(angle), np.zeros(CHANNELS), np.sin(angle)], axis=1),
        orientations=np.zeros((CHANNELS, 3)),
        coils=np.ones(CHANNELS, np.int32),
    )


def add(store: Store, name: str, bad: np.ndarray, *, subject: str = "01", **fields: object) -> None:
    caps = sensors()
    signal = 1e-5 * np.random.default_rng(len(name)).standard_normal((CHANNELS, SECONDS * 256)).astype(np.float32)
    about = {"dataset": "ours", "subject": subject, "source": f"sub-{subject}/eeg/{name}.edf", "version": "0"}
    about |= {"layout": caps.layout_id, "config_hash": "0" * 16}
    attributes = RecordingAttributes.model_validate(about | {"sfreq": 256.0, "pass_band": (0.1, 96.0)})
    write_recording(store, name, signal, sensors=caps, attributes=attributes, bad=bad.astype(np.uint8))
    row = about | {"recording": name, "modality": "eeg", "n_channels": CHANNELS, "n_eeg": CHANNELS, "n_events": 0}
    row |= {"n_magnetometers": 0, "n_gradiometers": 0, "sfreq_source": 512.0, "duration_s": float(SECONDS)}
    row |= {"pass_band_low": 0.1, "pass_band_high": 96.0, "notches": (50.0,)}
    publish_row(store, CatalogRow.model_validate(row | fields), [])


def marks(**stretches: tuple[int, slice]) -> np.ndarray:
    bad = np.zeros((CHANNELS, SECONDS), np.uint8)
    for reason, (channel, seconds) in stretches.items():
        bad[channel, seconds] |= np.uint8(BadReason[reason.upper()])
    return bad


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "store", create=True)
    add(store, "good", marks(), bad_share=0.0, mains_ratio=2.5)
    worst = marks(flat=(0, slice(5, 15)), noisy=(0, slice(10, 20)), clipped=(4, slice(3, 4)))
    add(store, "worst", worst, subject="02", bad_channels=("E0",), bad_share=0.08, mains_ratio=31.0)
    add(store, "older", marks(uncorrelated=(7, slice(0, 2))))
    record = QuarantineRecord(source="sub-03/eeg/refused.edf", dataset="ours", stage="signal", reason="<no> signal")
    quarantine(store, record)
    return store


def page(store: Store, **fields: object) -> tuple[str, dict]:
    result = quality(QualityConfig(root=str(store.root), **fields))
    folder = Path(result.pages["ours"]).parent
    return (folder / "index.html").read_text(), json.loads((folder / "figures.json").read_text())


def test_shares_are_those_planted_and_a_second_counts_once(store: Store):
    _, figures = page(store)
    cells = CHANNELS * SECONDS
    recordings = figures["recordings"]
    assert recordings["worst"]["shares"] == {"flat": 10 / cells, "noisy": 5 / cells, "clipped": 1 / cells}
    assert recordings["worst"]["bad_share"] == pytest.approx(16 / cells)
    assert recordings["good"]["shares"] == {}
    assert recordings["older"]["shares"] == {"uncorrelated": 2 / cells}
    assert list(recordings) == ["worst", "older", "good"]
    assert figures["quarantined"] == ["sub-03/eeg/refused.edf"]
    freqs, median = np.array(figures["spectra"]["freqs"]), np.array(figures["spectra"]["median"]["EEG"])
    white = np.log(2) * 1e-10 / 128  # median of the exponential distribution that a white power density has
    assert np.median(median[freqs > 1]) == pytest.approx(white, rel=0.1)


def test_the_page_shows_counts_table_and_reasons(store: Store):
    html, _ = page(store)
    text = re.sub(r"<[^>]*>", "|", re.sub(r"<(svg|script|style).*?</\1>", "", html, flags=re.DOTALL))
    text = re.sub(r"[|\s]*\|[|\s]*", "|", text)
    for words in ("3|recordings ready", "1|quarantined", "1|with bad channels", "1 of 30|channels bad", "3.00 %|of"):
        assert words in text
    assert "1 of 3 recordings have no measures" in text
    assert "|sub-02/eeg/worst.edf|02|10|20.0|1|8.00|5.00|0.50|2.50|31|–|–|E0|" in text
    assert text.index("worst.edf") < text.index("older.edf") < text.index("good.edf")
    assert "&lt;no&gt; signal" in html
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']+["']|url\((?!#)""", html)


def test_only_the_worst_are_drawn_and_the_page_states_it(store: Store):
    html, _ = page(store, thumbnails=1)
    assert html.count("data:image/png") == 3  # and the bars of all recordings
    assert "The worst 1 of 3" in html
    for number in range(9):
        add(store, f"more{number:02}", marks(noisy=(1, slice(0, 1))), bad_share=0.005)
    longer, figures = page(store, thumbnails=1)
    assert len(figures["recordings"]) == 12
    assert len(longer) - len(html) < 9 * 3000


def test_drawings_of_thousands_of_recordings_stay_small():
    rng = np.random.default_rng(0)
    shares = {str(reason): sorted(rng.random(3000), reverse=True) for reason in range(6)}
    assert len(reasons_over_recordings(shares, list(REASON_COLOURS.values())[:6])) < 100_000
    records = [
        QuarantineRecord(source=f"{i}", dataset="ours", stage="signal", reason="", sensors=sensors().to_records())
        for i in range(9)
    ]
    assert [bool(row["svg"]) for row in quarantine_section(records, 2)] == [True] * 2 + [False] * 7
    assert all(row["svg"] for row in quarantine_section(records))


def test_a_second_run_writes_nothing_and_a_new_recording_a_new_page(store: Store):
    first = quality(QualityConfig(root=str(store.root)))
    again = quality(QualityConfig(root=str(store.root), dataset="ours"))
    assert (first.done_before, again.done_before) == (False, True)
    assert first.pages == again.pages
    html = Path(first.path).read_text()
    store.location("reports").fs.rm(str(store.location("reports").path), recursive=True)
    assert Path(quality(QualityConfig(root=str(store.root))).path).read_text() == html
    add(store, "late", marks())
    assert quality(QualityConfig(root=str(store.root))).pages != first.pages


def test_withdrawing_a_person_removes_the_page_that_names_them(store: Store):
    result = quality(QualityConfig(root=str(store.root)))
    assert verify(VerifyConfig(root=str(store.root), kinds=("reports",))).faults == ()
    withdrawn = withdraw(WithdrawConfig(root=str(store.root), dataset="ours", subject="02"))
    assert withdrawn.others == (f"reports/{Path(result.path).parent.name}",)
    assert not Path(result.path).exists()
    assert page(store)[1]["people"] == ["ours/01", "ours/sub-03"]
    assert withdraw(WithdrawConfig(root=str(store.root), dataset="ours", subject="03")).others
    assert store.names("reports") == []


def test_an_unknown_dataset_is_named(store: Store):
    with refusal(UserError, "'theirs'", action="ours"):
        quality(QualityConfig(root=str(store.root), dataset="theirs"))


def test_the_first_reason_by_rank_is_drawn():
    ranks = list(REASON_COLOURS)
    for place, reason in enumerate(ranks, 1):
        lower = sum(int(other) for other in ranks[place:])
        assert first_reason(np.array([[int(reason) | lower]], np.uint8)) == place
    assert first_reason(np.zeros((1, 1), np.uint8)) == 0


def test_a_heat_map_has_every_reason_where_it_was():
    bad = np.zeros((3, 1000), np.uint8)
    bad[0, 250:500] = BadReason.NOISY
    bad[2, 777] = BadReason.FLAT  # one second of a thousand, in four hundred columns
    picture = Image.open(io.BytesIO(base64.b64decode(heat_map(bad, 1000.0).partition(",")[2]))).convert("RGB")
    pixels = np.asarray(picture).astype(int)

    def where(reason):
        colour = [int(REASON_COLOURS[reason][i : i + 2], 16) for i in (1, 3, 5)]
        return np.argwhere(np.abs(pixels - colour).max(axis=2) < 12)

    assert np.count_nonzero((pixels == 255).all(axis=2)) > pixels[..., 0].size / 2
    noisy = where(BadReason.NOISY)
    width, height = np.ptp(noisy[:, 1]) + 1, np.ptp(noisy[:, 0]) + 1
    assert len(noisy) == pytest.approx(width * height, rel=0.02)
    flat = where(BadReason.FLAT)
    flat = flat[flat[:, 1] > noisy[:, 1].max()]
    assert flat[:, 0].min() > noisy[:, 0].max()
    whole = 4 * width
    assert flat[:, 1].mean() - noisy[:, 1].min() == pytest.approx((777 - 250) / 1000 * whole, abs=5)


def test_headings_sort_the_table_by_mouse_and_keyboard(store: Store, tmp_path: Path):
    """A recording without a value stays last in both directions."""
    path = Path(quality(QualityConfig(root=str(store.root))).pages["ours"])
    worst, good, older = "sub-02/eeg/worst.edf", "sub-01/eeg/good.edf", "sub-01/eeg/older.edf"
    with open_browser(tmp_path) as browser:
        browser.open(path.as_uri())
        heads = browser.run("[...document.querySelectorAll('#recordings th')].map(one => one.textContent)")
        rows = "[...document.querySelectorAll('#recordings tbody tr')].map(r => r.cells[0].textContent)"
        browser.click(f"#recordings th:nth-child({heads.index('mains ratio') + 1}) button")
        assert browser.run(rows) == [worst, good, older]
        browser.press("Enter")
        assert browser.run(rows) == [good, worst, older]
        assert browser.run("[...document.querySelectorAll('img')].every(one => one.naturalWidth > 0 && one.alt)")
        browser.size(380, 800)
        assert browser.run("document.documentElement.scrollWidth") <= 380
        assert browser.errors == []
