"""create_assertion_key writes a new key to a file that only its owner can read."""

import json
import stat
from pathlib import Path

import pytest

from authn import jwt_keys
from tests.commands.run_command import run, run_alone


@pytest.mark.parametrize(("words", "algorithm"), [([], "EdDSA"), (["--rsa"], "RS256")])
def test_a_new_key_is_only_in_a_file_that_only_its_owner_can_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, words: list[str], algorithm: str
) -> None:
    caplog.set_level("DEBUG")
    path = tmp_path / "key.pem"
    ended = run("create_assertion_key", str(path), *words, "--json")
    key = jwt_keys.read(path)
    assert json.loads(ended.out) == {"file": str(path), "kid": key.kid, "algorithm": algorithm}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    for line in path.read_text().splitlines()[1:-1]:
        assert line not in ended.out + ended.err + caplog.text


def test_the_key_id_and_the_next_step_are_printed(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    ended = run("create_assertion_key", str(path))
    assert jwt_keys.read(path).kid in ended.out
    assert "ASSERTION_KEYS" in ended.err


def test_two_keys_are_different(tmp_path: Path) -> None:
    kids = [json.loads(run("create_assertion_key", str(tmp_path / name), "--json").out)["kid"] for name in ("a", "b")]
    assert len(set(kids)) == 2


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("mine")
    ended = run("create_assertion_key", str(path))
    assert (ended.code, ended.out, path.read_text()) == (1, "", "mine")
    assert "is not overwritten" in ended.err


def test_a_missing_directory_is_one_message(tmp_path: Path) -> None:
    ended = run("create_assertion_key", str(tmp_path / "none" / "key.pem"))
    assert (ended.code, ended.out) == (1, "")
    assert "cannot be written" in ended.err


def test_a_key_that_the_configuration_already_lists_can_be_created(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    assert "skyauth.E020" in run_alone("check", data_dir=tmp_path, ASSERTION_KEYS=str(path)).err
    assert run_alone("create_assertion_key", str(path), data_dir=tmp_path, ASSERTION_KEYS=str(path)).code == 0
    assert run_alone("check", data_dir=tmp_path, ASSERTION_KEYS=str(path)).code == 0
