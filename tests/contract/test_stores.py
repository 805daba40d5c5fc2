"""Which store an address names."""

import subprocess
import sys
from pathlib import Path

import pytest

from hefjoin.errors import InputError
from hefjoin.stores import open_store


@pytest.mark.parametrize(
    "uri", ["", "gs://bucket/x", "file://host/x", "file:relative", "s3://", "s3:///key", "C:x", "~nobody-here/x"]
)
def test_what_is_not_a_store_is_refused_with_the_forms_that_are(uri: str) -> None:
    with pytest.raises(InputError, match="s3://bucket"):
        open_store(uri)


def test_a_folder_has_one_uri_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    uri = (tmp_path / "a store").as_uri()
    assert {open_store(form).uri for form in ("a store", "~/a store", str(tmp_path / "a store"), uri)} == {uri}


def test_a_local_store_needs_no_boto3() -> None:
    code = (
        "import sys; from hefjoin.stores import open_store; import hefjoin.stores.s3; open_store('x')\n"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
