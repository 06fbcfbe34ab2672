"""Text and numbers of archives: against Python's own codecs, and numbers written in several ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emeg.ingest.text_files import decode_text, has_decimal_comma, number

TABLE = "name\tunits\nFp1\tµV\nÉlectrode\tmV\n"


@pytest.mark.parametrize(
    ("codec", "encoding"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("latin-1", "Latin-1"),
    ],
)
def test_a_text_is_the_same_in_every_encoding(codec, encoding):
    assert decode_text(TABLE.encode(codec)) == (TABLE, encoding)


def test_characters_of_windows_1252_are_not_read_as_control_characters():
    assert decode_text("50\u2013100 \u20ac\u2026".encode("cp1252")).text == "50\u2013100 \u20ac\u2026"


def test_bytes_that_windows_1252_lacks_are_latin_1():
    assert decode_text(b"\x81\xb5V") == ("\x81\u00b5V", "Latin-1")


def test_binary_data_are_not_read_as_utf_16():
    data = bytes([1, 0, 0, 0] * 100)
    assert "\0" in decode_text(data).text


@given(st.binary(max_size=200))
def test_every_sequence_of_bytes_can_be_decoded(data):
    assert isinstance(decode_text(data).text, str)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_with_point_and_with_comma(value):
    assert number(repr(value)) == value
    assert number(repr(value).replace(".", ",")) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.234,5", 1234.5),
        ("1,234.5", 1234.5),
        ("\u22120,5", -0.5),
        (" 7 ", 7.0),
        (",5", 0.5),
        ("0", 0.0),
        (0, 0.0),
        *((nothing, None) for nothing in ("", "n/a", "nan", "inf", "abc", "1;5", "1,2,3", True, None, [50], 10**400)),
    ],
)
def test_what_is_no_number_is_none_and_never_zero(text, value):
    assert number(text) == value


def test_decimal_commas_are_found():
    assert has_decimal_comma("1,5")
    assert not has_decimal_comma("1.5")
    assert not has_decimal_comma("a,5")
