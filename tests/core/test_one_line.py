"""Text of people is one line, and numbers of people have ASCII digits."""

import argparse

import pytest
from django import forms
from django.core.exceptions import ValidationError

from core.numbers import WholeNumberField, whole_number
from core.one_line import as_one_line, check_one_line

ODD = ["a\nb", "a\rb", "a\tb", "a\x00b", "a\x1bb", "a\x7fb", "a\x85b", "a\u2028b", "a\u2029b", "a\u202eb", "a\u2066b", "a\ud800b"]


@pytest.mark.parametrize("text", ["", "Åsa Ñandú", "李 小龙", "می‌خواهم", "👩‍🚀", 'a\'b <c> "d" & e', "=1+1"])
def test_text_of_any_language_is_accepted(text):
    check_one_line(text)
    assert as_one_line(text) == text


@pytest.mark.parametrize("text", ODD, ids=[f"U+{ord(text[1]):04X}" for text in ODD])
def test_a_character_that_breaks_or_turns_the_line_is_refused_by_its_number(text):
    with pytest.raises(ValidationError, match=rf"U\+{ord(text[1]):04X}"):
        check_one_line(text)
    assert as_one_line(text) == "a b"


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("30", 30), ("-1", -1), ("007", 7)])
def test_ascii_digits_are_a_number(text, number):
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "٣", "\uff13\uff10", "1_000", " 3", "3\n", "+3", "3.0", "1e3", "0x10", "९", "²", "9" * 19])
def test_other_digits_are_no_number(text):
    with pytest.raises(ValueError, match="digits 0 to 9"):
        whole_number(text)


@pytest.mark.parametrize(("text", "expected"), [("30", 30), (" 30 ", 30), ("", None), ("٣", "error"), ("3.0", "error")])
def test_a_form_field_takes_ascii_digits_only(text, expected):
    class Form(forms.Form):
        days = WholeNumberField(required=False)

    form = Form({"days": text})
    assert (form.cleaned_data["days"] if form.is_valid() else "error") == expected


def test_a_command_takes_ascii_digits_only(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=whole_number)
    assert parser.parse_args(["--days", "30"]).days == 30
    with pytest.raises(SystemExit):
        parser.parse_args(["--days", "٣"])
