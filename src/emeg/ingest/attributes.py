"""Build the records of a recording: the attributes of its Zarr group, and its row in the catalogue.

Shape letters: C channels.
"""

import numpy as np

from emeg.ingest.facts import RecordingFacts, Standardised
from emeg.sensors import SensorType
from emeg.store import BadReason, CatalogRow, RecordingAttributes, Stretch
from emeg.version import __version__


def recording_attributes(facts: RecordingFacts, signal: Standardised) -> RecordingAttributes:
    """Return the attributes of a recording's Zarr group, beside its sensors."""
    source, config = facts.source, facts.config
    return RecordingAttributes(
        sfreq=config.standardise.sfreq,
        pass_band=_pass_band(facts, signal),
        notches=signal.band.notches,
        device=facts.device,
        layout=signal.sensors.layout_id,
        source=source.shown,
        dataset=source.dataset,
        subject=source.subject,
        licence=source.licence,
        config_hash=config.standardise.product_hash(),
        version=__version__,
        stretches=stored_stretches(facts) if facts.breaks else (),
    )


def stored_stretches(facts: RecordingFacts) -> tuple[Stretch, ...]:
    """Return the stretches of a recording in samples of the store, rounded from those of the source."""
    ratio = facts.config.standardise.sfreq / facts.sfreq_source
    return tuple(Stretch(round(one.start * ratio), round(one.stop * ratio), one.onset_s) for one in facts.stretches)


def _pass_band(facts: RecordingFacts, signal: Standardised) -> tuple[float, float]:
    """Return the band that the signal holds, Hz: the planned one, its lower edge raised to the source's high-pass."""
    highpass = round(float(facts.raw.info["highpass"] or 0.0), 6)
    low = highpass if signal.band.low < highpass < signal.band.high else signal.band.low
    return low, signal.band.high


def catalog_row(facts: RecordingFacts) -> CatalogRow:
    """Return the catalogue row of a recording after the last step of ingest.

    Raises
    ------
    AttributeError
        A step has not run.
    """
    source, config, signal = facts.source, facts.config, facts.signal
    sensors = signal.sensors
    low, high = _pass_band(facts, signal)
    counts = {kind: int(np.count_nonzero(sensors.types == kind)) for kind in SensorType}
    return CatalogRow(
        recording=facts.recording,
        dataset=source.dataset,
        subject=source.subject,
        session=source.session,
        task=source.task,
        run=source.run,
        acquisition=source.acquisition,
        device=facts.device,
        modality=sensors.modality,
        source=source.shown,
        n_channels=len(sensors),
        n_eeg=counts[SensorType.EEG],
        n_magnetometers=counts[SensorType.MAGNETOMETER],
        n_gradiometers=counts[SensorType.GRADIOMETER],
        layout=sensors.layout_id,
        sfreq_source=facts.sfreq_source,
        duration_s=signal.n_samples / config.standardise.sfreq,
        pass_band_low=low,
        pass_band_high=high,
        notches=signal.band.notches,
        mains=signal.mains,
        bad_channels=tuple(sensors.names[i] for i in signal.channels.indices),
        interpolated=tuple(sensors.names[i] for i in signal.interpolation.channels),
        dropped=facts.picked.dropped,
        compensation_grade=facts.compensation_grade,
        **facts.state._asdict(),
        n_events=len(facts.events.events),
        **_quality(signal),
        licence=source.licence,
        notes=tuple(dict.fromkeys(map(facts.scrubbed, facts.notes))),
        config_hash=config.standardise.product_hash(),
        version=__version__,
    )


def rounding_note(raised: float) -> tuple[str, ...]:
    """Return a note if sixteen bits do not cover the spectrum from its peak to its lowest part.

    Parameters
    ----------
    raised : float
        Share of channels × chunks whose scale followed the peak (`emeg.store.write_recording`).
    """
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
