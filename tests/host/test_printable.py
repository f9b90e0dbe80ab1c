"""Text from devices and files reaches a terminal as text, never as a command."""

from __future__ import annotations

import json
import traceback
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kilotune.cli.main import main
from kilotune.cli.output import Output, pairs, table
from kilotune.errors import EXIT_USAGE, KilotuneError
from kilotune.printable import printable

HOSTILE = "\x1b]0;owned\x07\x1b[2J\rforged: ok\n\x9b31m\u202egnp.exe\u2028"


@given(st.text())
def test_no_character_that_steers_a_terminal_is_left(text: str) -> None:
    for character in printable(text):
        assert unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp")


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_what_can_be_read_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_the_escapes_say_what_was_there() -> None:
    assert printable("a\x1b[2J\r\n") == r"a\x1b[2J\r\n"
    assert printable("a\tb\nc", keep="\n\t") == "a\tb\nc"
    assert printable("\u202e") == r"\u202e"


def test_names_of_files_that_are_no_text_keep_their_bytes_but_not_those_that_old_terminals_obey() -> None:
    assert printable(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\udce9"
    assert printable(b"\x9b2J".decode("utf-8", "surrogateescape")) == r"\x9b2J"


def test_rows_and_tables_are_no_place_for_forged_lines() -> None:
    assert len(pairs([("board", HOSTILE), ("lock", "none")]).splitlines()) == 2
    assert len(table([("name", HOSTILE)], ("what", "value")).splitlines()) == 3


@pytest.mark.parametrize("speak", ["result", "row", "say", "note", "error"])
def test_every_way_to_speak_goes_through_the_filter(speak: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(as_json=False)
    if speak in ("result", "row"):
        getattr(out, speak)({}, HOSTILE)
    elif speak == "error":
        out.error(KilotuneError("bad_file", HOSTILE, HOSTILE), 1)
    else:
        getattr(out, speak)(HOSTILE)
    said = capsys.readouterr()
    assert not set(said.out + said.err) & set("\x1b\x07\r\x9b\u202e\u2028")
    assert r"\x1b[2J" in said.out + said.err


def test_an_error_that_nobody_catches_is_text_too() -> None:
    """Python itself prints it, at the end of a traceback."""
    shown = "".join(traceback.format_exception_only(KilotuneError("bad_file", HOSTILE, HOSTILE)))
    assert not set(shown) & set("\x1b\x07\r\x9b\u202e\u2028")
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize("how", ["an extra file", "an option", "no command"])
def test_what_the_parser_quotes_goes_through_the_filter(how: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A shell puts names of files there, and anyone may have named a file."""
    words = {
        "an extra file": ["inspect", __file__, HOSTILE],
        "an option": ["inspect", f"--{HOSTILE}"],
        "no command": [HOSTILE],
    }[how]
    with pytest.raises(SystemExit) as error:
        main(words, prog_name="kilotune")
    assert error.value.code == EXIT_USAGE
    said = capfd.readouterr()
    assert not set(said.out + said.err) & set("\x1b\x07\r\x9b\u202e\u2028")
    assert "owned" in said.err


def test_json_says_it_exactly(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).result({"board": HOSTILE}, "")
    printed = capsys.readouterr().out
    assert json.loads(printed)["board"] == HOSTILE
    assert not set(printed) & set("\x1b\x07\r\x9b\u202e\u2028")
