"""Files are written completely or not at all, through links and pipes, and never over an input."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kilotune.common.files import keep_apart, require_writable, write_atomically
from kilotune.errors import KilotuneError


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        require_writable(pipe)
        write_atomically(pipe, b"through")
        assert os.read(reader, 100) == b"through"
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_folders_of_outputs_are_made_and_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b", b"x")
    require_writable(tmp_path / "c" / "d")
    for write in (require_writable, lambda path: write_atomically(path, b"x")):
        with pytest.raises(KilotuneError) as error:
            write(tmp_path / "a" / "b" / "below-a-file")
        assert error.value.code == "cannot_write"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "c"]  # nothing was left behind


def test_an_output_is_kept_apart_from_inputs_and_from_other_outputs(tmp_path: Path) -> None:
    model = tmp_path / "m"
    model.write_bytes(b"")
    (tmp_path / "link").symlink_to("m")
    keep_apart({"--out": tmp_path / "new", "--plot": None}, {"the model": model})
    keep_apart({"--out": Path(os.devnull), "--plot": Path(os.devnull)}, {"the model": model})
    for outputs in ({"--out": tmp_path / "link"}, {"--out": tmp_path / "new", "--plot": tmp_path / "x" / ".." / "new"}):
        with pytest.raises(KilotuneError, match="would overwrite"):
            keep_apart(dict(outputs), {"the model": model})


def test_a_file_that_is_replaced_keeps_who_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_atomically(path, b"1")
    path.chmod(0o600)
    write_atomically(path, b"2")
    assert path.stat().st_mode & 0o777 == 0o600
