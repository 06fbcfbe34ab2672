"""Units in spellings that MNE-Python does not know, against the numbers that were written."""

import numpy as np
import pybv
import pytest

from emeg.ingest.tables.stated_units import apply_stated_units


@pytest.mark.parametrize("unit", ["\u03bcV", "microV", "UV", "\u00b5V"])
def test_brainvision_channels_are_eeg_in_volts_whatever_the_spelling_of_their_unit(tmp_path, unit):
    import mne

    signal = 1e-5 * np.random.default_rng(0).standard_normal((2, 1000))
    pybv.write_brainvision(data=signal, sfreq=250.0, ch_names=["Fz", "Cz"], fname_base="rec", folder_out=tmp_path)
    header = tmp_path / "rec.vhdr"
    header.write_text(header.read_text(encoding="utf-8").replace("\u00b5V", unit), encoding="utf-8")
    raw = mne.io.read_raw_brainvision(header, verbose="ERROR")
    factors, _ = apply_stated_units(raw)
    assert raw.get_channel_types() == ["eeg", "eeg"]
    read = raw.get_data() * np.array([[factors.get(name, 1.0)] for name in raw.ch_names])
    np.testing.assert_allclose(read, signal, atol=1e-7)
