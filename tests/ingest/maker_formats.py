"""Write recordings in formats that no library exports, with given texts in every free field.

GDF 2.10, EGI MFF, Persyst, Nicolet and CTF: 10 s of noise with a common part, at 128 Hz.
"""

import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SFREQ, N = 128, 1280


class Planted(NamedTuple):
    """What is planted: a name for every text, and when."""

    name: str
    serial: str
    born: datetime.date
    measured: datetime.datetime


def noise(n_channels: int, scale: float) -> NDArray[np.float64]:
    rng = np.random.default_rng(5)
    return scale * (rng.standard_normal(N) + 0.7 * rng.standard_normal((n_channels, N)))


def write_gdf(path: Path, channels: tuple[str, ...], planted: Planted) -> None:
    """GDF 2.10 (arXiv cs/0608052): patient, recording, dates, and the texts of every channel."""

    def days(when: datetime.date) -> bytes:
        moment = datetime.datetime.combine(when, datetime.time())
        days = (moment - datetime.datetime(1, 1, 1)).total_seconds() / 86400 + 367
        return np.uint64(days * 2**32).tobytes()

    n = len(channels)
    head = b"GDF 2.10" + f"{planted.name} {planted.name}".ljust(66).encode() + bytes(14)
    head += f"{planted.name} {planted.serial} 29-NOV-1987".ljust(64).encode() + bytes(16)
    head += days(planted.measured.date()) + days(planted.born)
    head += np.uint16(1 + n).tobytes() + planted.name[:6].encode() + planted.serial[:8].encode() + bytes(6 + 6 + 24)
    head += np.int64(N // SFREQ).tobytes() + np.array([1, 1], "<u4").tobytes() + np.uint16(n).tobytes() + bytes(2)
    assert len(head) == 256
    head += b"".join(name.ljust(16).encode() for name in channels)
    head += planted.serial.ljust(80).encode() * n + b"uV    " * n + np.full(n, 4275, "<u2").tobytes()
    head += b"".join(np.full(n, value, "<f8").tobytes() for value in (-3276.8, 3276.7, -32768, 32767))
    head += planted.name.ljust(68).encode() * n
    head += b"".join(np.full(n, value, "<f4").tobytes() for value in (60.0, 0.1, 50.0))
    head += np.full(n, SFREQ, "<i4").tobytes() + np.full(n, 3, "<i4").tobytes()
    head += bytes(12 * n) + b"\xff" * n + planted.name.ljust(19).encode() * n
    assert len(head) == 256 * (1 + n)
    blocks = np.round(noise(n, 1e-5) * 1e7).astype("<i2").reshape(n, -1, SFREQ).transpose(1, 0, 2)
    events = b"\x01" + bytes([2, 0, 0]) + np.float32(SFREQ).tobytes()
    events += np.array([129, 385], "<u4").tobytes() + np.array([769, 770], "<u2").tobytes()
    path.write_bytes(head + blocks.tobytes() + events)


def write_mff(path: Path, planted: Planted) -> None:
    """EGI MFF, 128 channels and the reference: file info, patient and an event track."""
    from mffpy import Writer
    from mffpy.bin_writer import BinWriter

    signal = BinWriter(sampling_rate=SFREQ, data_type="EEG")
    signal.add_block((noise(129, 1e-5) * 1e6).astype(np.float32))
    writer = Writer(str(path))
    writer.addxml("fileInfo", recordTime=planted.measured)
    writer.add_coordinates_and_sensor_layout("HydroCel GSN 128 1.0")
    writer.addbin(signal)
    writer.addxml("patient", name="Last (Family) Name", data=planted.name)
    writer.addxml(
        "eventTrack",
        filename=f"Events_{planted.name}.xml",
        name=planted.name,
        trackType="EVNT",
        events=[
            {
                "beginTime": planted.measured + datetime.timedelta(seconds=second),
                "duration": 100_000_000,
                "code": code,
                "label": planted.name,
                "description": planted.name,
                "sourceDevice": planted.serial,
            }
            for second, code in ((1, "stm+"), (3, "stm+"), (5, "stm+"))
        ],
    )
    writer.write()
    info = path / "info.xml"
    said = f"<ampSerialNumber>{planted.serial}</ampSerialNumber><mffVersion>3</mffVersion></fileInfo>"
    text = info.read_text(encoding="utf-8")
    if "mffVersion" in text:
        said = said.replace("<mffVersion>3</mffVersion>", "")
    info.write_text(text.replace("</fileInfo>", said), encoding="utf-8")


def write_persyst(path: Path, channels: tuple[str, ...], planted: Planted) -> None:
    """Persyst .lay and .dat: a section about the patient, and comments."""
    (noise(len(channels), 1e-5) * 1e7).T.astype("<i2").tofile(path.with_suffix(".dat"))
    lines = [
        "[FileInfo]",
        f"File={path.with_suffix('.dat').name}",
        "FileType=Interleaved",
        f"SamplingRate={SFREQ}",
        "HeaderLength=0",
        "Calibration=0.1",
        f"WaveformCount={len(channels)}",
        "DataType=0",
        "[ChannelMap]",
        *(f"{name}={i}" for i, name in enumerate(channels, 1)),
        "[Patient]",
        *(
            f"{key}={planted.name}"
            for key in ("First", "MI", "Last", "Physician", "Technician", "Medications", "History")
        ),
        f"ID={planted.serial}",
        "Sex=F",
        "Hand=R",
        f"BirthDate={planted.born:%m/%d/%y}",
        f"TestDate={planted.measured:%Y.%m.%d}",
        f"TestTime={planted.measured:%H:%M:%S}",
        f"Comments1={planted.name}",
        f"Comments2={planted.name}",
        "[SampleTimes]",
        "0=48461.0",
        "[Comments]",
        f"1.0,0.0,0,0,{planted.name} coughs",
        "3.0,0.0,0,0,left",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_nicolet(path: Path, channels: tuple[str, ...], planted: Planted) -> None:
    """Nicolet .data and .head: numbers of patient, admission and recording, and start time."""
    (noise(len(channels), 1e-5) * 1e7).T.astype("<i2").tofile(path)
    lines = [
        f"start_ts={planted.measured:%Y-%m-%d %H:%M:%S}.000",
        f"num_samples={N}",
        f"sample_freq={SFREQ}",
        "conversion_factor=0.1",
        f"num_channels={len(channels)}",
        f"elec_names=[{','.join(channels)}]",
        *(f"{key}={planted.born:%Y%m%d}" for key in ("pat_id", "adm_id", "rec_id")),
        f"duration_in_sec={N // SFREQ}",
        "sample_bytes=2",
    ]
    path.with_suffix(".head").write_text("\n".join(lines) + "\n", encoding="utf-8")


_COIL = np.dtype(
    [
        ("pos", ">f8", 3),
        ("d0", ">f8"),
        ("norm", ">f8", 3),
        ("d1", ">f8"),
        ("turns", ">i2"),
        ("d2", ">i4"),
        ("d3", ">i2"),
        ("area", ">f8"),
    ]
)
_CHANNEL = np.dtype(
    [
        ("sensor", ">i2"),
        ("run", ">i2"),
        ("coil_type", ">i4"),
        ("proper_gain", ">f8"),
        ("qgain", ">f8"),
        ("io_gain", ">f8"),
        ("io_offset", ">f8"),
        ("num_coils", ">i2"),
        ("grade", ">i2"),
        ("d0", ">i4"),
        ("coil", _COIL, 8),
        ("head_coil", _COIL, 8),
    ]
)
_COMPENSATION = np.dtype(
    [
        ("sensor_name", "S32"),
        ("coeff_type", ">i4"),
        ("d0", ">i4"),
        ("ncoeff", ">i2"),
        ("sensors", "S31", 50),
        ("coeffs", ">f8", 50),
    ]
)


def write_ctf(path: Path, planted: Planted, n: int = 24) -> None:
    """CTF .ds: axial gradiometers over a spherical dewar; every text of the resource file, history, markers, infods.

    One reference magnetometer and coefficients of 0 for it: MNE-Python wants a compensation.
    """
    path.mkdir(parents=True)
    stem = path.name.removesuffix(".ds")
    name, date = planted.name.encode(), f"{planted.measured:%d-%b-%Y}".encode()

    def text(value: bytes, size: int) -> bytes:
        return value[: size - 1].ljust(size, b"\0")

    head = b"MEG42RS\0" + text(name, 256) * 3 + b"\0\x01"
    head += text(f"{planted.measured:%H:%M}".encode(), 255) + text(date, 255)
    head += np.array([N], ">i4").tobytes() + np.array([n + 1], ">i2").tobytes()
    head += bytes(-len(head) % 8) + np.array([SFREQ, N / SFREQ], ">f8").tobytes() + b"\0\x01"
    head += bytes(-len(head) % 4) + bytes(4) + b"\0\x01\0\0"
    head = head.ljust(1844 - 4 - 60 - 5 * 32 - 256 - 4, b"\0")
    head += text(name, 32) + text(name, 256) + text(planted.serial.encode(), 32) + text(name, 32) * 3
    head = (head + text(name, 60)).ljust(1836, b"\0") + np.array([len(name) + 1], ">i4").tobytes()
    head = head.ljust(1844, b"\0") + name + b"\0" + b"\0\0"
    heights = np.linspace(0.2, 0.95, n)
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    ring = np.sqrt(1 - heights**2)
    normals = np.stack([ring * np.cos(turn), ring * np.sin(turn), heights], axis=1)
    normals = np.concatenate([normals, [[0.0, 0.0, 1.0]]])
    channels = np.zeros(n + 1, _CHANNEL)
    channels["sensor"], channels["num_coils"] = 5, 2
    channels["sensor"][n] = 0
    channels["proper_gain"], channels["qgain"], channels["io_gain"] = -1e9, 1e6, 1.0
    for coil in ("coil", "head_coil"):
        for number, distance in enumerate((11.0, 16.0)):
            channels[coil]["pos"][:, number] = normals * distance - [0.0, 0.0, 19.0]
            channels[coil]["norm"][:, number] = normals if number == 0 else -normals
    names = [f"MLC{i:02}-1609".encode() for i in range(11, 11 + n)] + [b"BG1-1609"]
    compensation = np.zeros(n, _COMPENSATION)
    compensation["sensor_name"], compensation["coeff_type"] = names[:n], 0x47314252
    compensation["ncoeff"], compensation["sensors"][:, 0] = 1, names[n]
    tail = b"".join(text(one, 32) for one in names) + channels.tobytes()
    (path / f"{stem}.res4").write_bytes(head + tail + np.array([n], ">i2").tobytes() + compensation.tobytes())
    values = np.round(noise(n + 1, 3e-13) * 1e15).astype(">i4")
    (path / f"{stem}.meg4").write_bytes(b"MEG41CP\0" + values.tobytes())
    (path / f"{stem}.hist").write_text(f"{planted.name} {planted.measured:%d-%b-%Y}\n")
    (path / f"{stem}.infods").write_bytes(b"PATIENT_NAME_FIRST" + name + b"PATIENT_BIRTHDATE" + date)
    (path / f"{stem}.hc").write_text(
        "".join(
            f"{how} {coil} coil position relative to {frame} (cm):\n\tx = {x}\n\ty = {y}\n\tz = {z}\n"
            for frame, shift in (("dewar", -25.0), ("head", 0.0))
            for how in ("measured",)
            for coil, (x, y, z) in (
                ("nasion", (10.0, 0.0, shift)),
                ("left ear", (0.0, 7.0, shift)),
                ("right ear", (0.0, -7.0, shift)),
            )
        )
    )
    (path / "MarkerFile.mrk").write_text(
        f"PATH OF DATASET:\n/home/{planted.name}/{stem}.ds\n\nNUMBER OF MARKERS:\n1\n\nCLASSGROUPID:\n3\n"
        f"NAME:\n{planted.name}\nCOMMENT:\n{planted.name}\nCOLOR:\ngreen\nNUMBER OF SAMPLES:\n1\nLIST OF SAMPLES:\n"
        "TRIAL NUMBER\t\tTIME FROM SYNC POINT (in seconds)\n                  +0\t\t\t\t\t+1.5\n"
    )


def write_gdf_of_rates(path: Path, rates: dict[str, int], *, seconds: int) -> dict[str, NDArray[np.float64]]:
    """Write GDF 2.10 whose signals have several rates; return the signals in volts."""
    rng = np.random.default_rng(7)
    n, steps = len(rates), {}
    for name, rate in rates.items():
        steps[name] = np.round(np.cumsum(rng.standard_normal(seconds * rate)) * 10).astype("<i2")
    head = b"GDF 2.10" + b"X X".ljust(66) + bytes(14) + b"X X".ljust(64) + bytes(16) + bytes(16)
    head += np.uint16(1 + n).tobytes() + bytes(6 + 8 + 6 + 6 + 24)
    head += np.int64(seconds).tobytes() + np.array([1, 1], "<u4").tobytes() + np.uint16(n).tobytes() + bytes(2)
    head += b"".join(name.ljust(16).encode() for name in rates)
    head += bytes(80 * n) + b"uV    " * n + np.full(n, 4275, "<u2").tobytes()
    head += b"".join(np.full(n, value, "<f8").tobytes() for value in (-3276.8, 3276.7, -32768, 32767))
    head += bytes(68 * n) + b"".join(np.full(n, value, "<f4").tobytes() for value in (60.0, 0.1, 50.0))
    head += np.array(list(rates.values()), "<i4").tobytes() + np.full(n, 3, "<i4").tobytes()
    head += bytes(12 * n) + b"\xff" * n + bytes(19 * n)
    assert len(head) == 256 * (1 + n)
    records = [
        b"".join(steps[name][second * rate : (second + 1) * rate].tobytes() for name, rate in rates.items())
        for second in range(seconds)
    ]
    path.write_bytes(head + b"".join(records))
    return {name: values * 0.1e-6 for name, values in steps.items()}
