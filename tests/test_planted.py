"""That what looks for planted passwords finds them: a search that finds nothing must have been able to."""

import base64
import bz2
import gzip
import sqlite3
import zipfile

import pytest

from tests.planted import said_in, said_in_files

SECRETS = {"of the store": "planted-4c0fe1d0aa", "of nobody": "planted-111222333444"}


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "postgresql://user:"])
def test_also_in_base64(before):
    coded = base64.b64encode(f"{before}{SECRETS['of the store']}@host".encode())
    assert said_in(coded, SECRETS) == ["of the store"]


@pytest.mark.parametrize("kind", ["plain", "gzip", "bzip2", "zip", "sqlite"])
def test_also_in_packed_files_and_rows(tmp_path, kind):
    path = tmp_path / "below" / "file"
    path.parent.mkdir()
    text = f"url: s3://key:{SECRETS['of the store']}@bucket\n".encode() * 3
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("member", text)
    elif kind == "sqlite":
        with sqlite3.connect(path) as connection:
            connection.execute("create table t (c text)")
            connection.execute("insert into t values (?)", [text.decode()])
    else:
        path.write_bytes({"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[kind](text))
    assert said_in_files(SECRETS, [tmp_path], but=()) == [f"{path}: of the store"]
    assert said_in_files(SECRETS, [tmp_path], but=[path]) == []
    assert said_in_files(SECRETS, [tmp_path], but=[path.parent]) == []
