"""Units in the spellings that archives have: against the factors of the SI."""

import pytest

from emeg.ingest.text_files import quantity
from emeg.ingest.units import HERTZ, hertz, metres, seconds, volts


@pytest.mark.parametrize(
    ("text", "value"),
    [(50, 50.0), ("50 Hz", 50.0), ("60Hz", 60.0), ("60,0 hertz", 60.0), ("0.05 kHz", 50.0), ("n/a", None)],
)
def test_frequencies_may_have_their_unit_behind_them(text, value):
    assert hertz(text) == value


def test_another_unit_is_not_read_as_the_wanted_one():
    assert hertz("50 V") is None
    assert hertz("0.1 - 40 Hz") is None
    assert quantity("20 %", HERTZ) is None
    assert seconds("1500 ms") == 1.5


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *(("uV", 1e-6), ("\u00b5V", 1e-6), ("\u03bcV", 1e-6), ("microV", 1e-6), ("uVolts", 1e-6), ("muV", 1e-6)),
        *(("mV", 1e-3), ("Millivolt", 1e-3), ("V", 1.0), ("nV", 1e-9), ("kV", 1e3), ("[uV]", 1e-6), ("u V", 1e-6)),
        *(("T", None), ("", None), ("n/a", None), ("a.u.", None)),
    ],
)
def test_units_of_voltage_in_every_spelling(unit, factor):
    assert volts(unit) == factor


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *(("m", 1.0), ("metres", 1.0), ("Meters", 1.0), ("cm", 1e-2), ("centimetre", 1e-2), ("mm", 1e-3)),
        *(("millimeters", 1e-3), ("dm", 0.1), ("\u00b5m", 1e-6), ("V", None), ("", None), ("pixels", None)),
    ],
)
def test_units_of_length_in_symbols_and_words(unit, factor):
    assert metres(unit) == factor


def test_a_micro_sign_that_was_decoded_twice_is_a_micro_sign():
    assert volts("\u00c2\u00b5V") == volts("\u00b5V") == 1e-6
