"""What the store says of a recording: the attributes of its group, and its row in the catalogue."""

from typing import TYPE_CHECKING

import numpy as np

from emeg.ingest.config import IngestConfig
from emeg.ingest.signal.meg_state import State
from emeg.ingest.signal.standardising import Standardised
from emeg.ingest.source import Source
from emeg.sensors import PickedSensors, SensorType
from emeg.store import BadReason, CatalogRow, RecordingAttributes
from emeg.version import __version__

if TYPE_CHECKING:
    import mne


def recording_attributes(
    source: Source, signal: Standardised, device: str, raw: "mne.io.BaseRaw", config: IngestConfig
) -> RecordingAttributes:
    """Say of a recording what its Zarr group says beside the sensors."""
    return RecordingAttributes(
        sfreq=config.standardise.sfreq,
        pass_band=_pass_band(signal, raw),
        notches=signal.band.notches,
        device=device,
        layout=signal.sensors.layout_id,
        source=source.shown,
        dataset=source.dataset,
        subject=source.subject,
        licence=source.licence,
        config_hash=config.standardise.product_hash(),
        version=__version__,
    )


def _pass_band(signal: Standardised, raw: "mne.io.BaseRaw") -> tuple[float, float]:
    """Say what the signal holds: our band, or the source's high-pass where that is higher."""
    highpass = round(float(raw.info["highpass"] or 0.0), 6)
    low = highpass if signal.band.low < highpass < signal.band.high else signal.band.low
    return low, signal.band.high


def catalog_row(
    name: str,
    source: Source,
    raw: "mne.io.BaseRaw",
    signal: Standardised,
    picked: PickedSensors,
    state: State,
    device: str,
    grade: int,
    n_events: int,
    notes: list[str],
    config: IngestConfig,
) -> CatalogRow:
    """Say of a recording what the catalogue says."""
    sensors = signal.sensors
    low, high = _pass_band(signal, raw)
    counts = {kind: int(np.count_nonzero(sensors.types == kind)) for kind in SensorType}
    return CatalogRow(
        recording=name,
        dataset=source.dataset,
        subject=source.subject,
        session=source.session,
        task=source.task,
        run=source.run,
        acquisition=source.acquisition,
        device=device,
        modality=sensors.modality,
        source=source.shown,
        n_channels=len(sensors),
        n_eeg=counts[SensorType.EEG],
        n_magnetometers=counts[SensorType.MAGNETOMETER],
        n_gradiometers=counts[SensorType.GRADIOMETER],
        layout=sensors.layout_id,
        sfreq_source=float(raw.info["sfreq"]),
        duration_s=signal.n_samples / config.standardise.sfreq,
        pass_band_low=low,
        pass_band_high=high,
        notches=signal.band.notches,
        mains=signal.mains,
        bad_channels=tuple(sensors.names[i] for i in signal.channels.indices),
        interpolated=tuple(sensors.names[i] for i in signal.interpolation.channels),
        dropped=picked.dropped,
        compensation_grade=grade,
        **state._asdict(),
        n_events=n_events,
        **_quality(signal),
        licence=source.licence,
        notes=tuple(dict.fromkeys(notes)),
        config_hash=config.standardise.product_hash(),
        version=__version__,
    )


def rounding_note(raised: float) -> tuple[str, ...]:
    """Where the spectrum falls so low under the peak that sixteen bits do not span both, the peak wins."""
    if not raised:
        return ()
    return (f"in {raised:.2%} of channels × chunks rounding noise may be less than 20 dB under the spectrum",)


def _quality(signal: Standardised) -> dict[str, float | None]:
    """Aggregate over channels, seconds and segments; medians are of channels with a signal."""
    live_C = (signal.channels.reasons & int(BadReason.FLAT)) == 0
    seconds = {reason: float(np.count_nonzero(signal.bad & int(reason))) for reason in BadReason}

    def median(measure: str) -> float | None:
        measured = signal.measures.of(measure)[live_C]
        measured = measured[np.isfinite(measured)]
        return float(np.median(measured)) if measured.size else None

    return {
        "bad_share": float(np.count_nonzero(signal.bad)) / signal.bad.size,
        "flat_s": seconds[BadReason.FLAT],
        "noisy_s": seconds[BadReason.NOISY],
        "clipped_s": seconds[BadReason.CLIPPED],
        "beyond_gate_s": seconds[BadReason.BEYOND_GATE],
        "uncorrelated_s": seconds[BadReason.UNCORRELATED],
        "mains_ratio": median("mains"),
        "high_frequency_ratio": median("high_frequency"),
        "neighbour_correlation": median("neighbours"),
    }
