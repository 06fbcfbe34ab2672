"""Interpolation weights give the same result as MNE-Python's interpolation."""

import mne
import numpy as np

from emeg.ingest.signal.interpolation import interpolation
from emeg.sensors import sensors_from_info


def test_weights_equal_mne_for_both_types(shared):
    raw = mne.io.read_raw_fif(
        shared / "data/devices/neuromag306/sample_audvis_trunc_raw_sss.fif", preload=True, verbose="ERROR"
    )
    raw.pick(["meg", "eeg"], exclude=())
    raw.del_proj()
    raw.info["bads"] = []
    picked = sensors_from_info(raw.info)
    signal = raw.get_data(picks=picked.picks).astype(np.float32)
    rng = np.random.default_rng(0)
    eeg = np.flatnonzero(picked.sensors.is_eeg)
    bad = np.sort(np.concatenate([rng.choice(np.flatnonzero(~picked.sensors.is_eeg), 5, False), eeg[3:5]]))
    expected = raw.copy()
    expected.info["bads"] = [picked.sensors.names[i] for i in bad]
    expected.interpolate_bads(origin=(0.0, 0.0, 0.04), reset_bads=False, verbose="ERROR")
    found = interpolation(picked.sensors, bad, raw.info, picked.picks)
    assert found.channels.tolist() == bad.tolist()
    ours = signal.copy()
    found.apply(ours)
    theirs = expected.get_data(picks=picked.picks)
    for channel in bad:
        assert np.corrcoef(ours[channel], theirs[channel])[0, 1] > 0.9999
        assert abs(ours[channel].std() / theirs[channel].std() - 1) < 0.01
    good = np.setdiff1d(np.arange(len(signal)), bad)
    assert np.array_equal(ours[good], signal[good])
