"""What every SecretBox promises. Implementations: a key file (a KMS comes later)."""

import base64
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from innkeeper.adapters.keyfile import KeyFile, exposed, new_line
from innkeeper.model.errors import PermanentError
from innkeeper.ports import SecretBox


@pytest.fixture(params=["key file"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> SecretBox:
    return KeyFile.create(tmp_path / "key")


@pytest.mark.parametrize("plaintext", [b"", b"s3cret", bytes(range(256)) * 100])
def test_what_was_sealed_opens(box: SecretBox, plaintext: bytes):
    sealed = box.seal(plaintext, context="workspace/1")
    assert box.open(sealed, context="workspace/1") == plaintext
    assert not plaintext or plaintext not in sealed


def test_sealing_twice_gives_different_texts(box: SecretBox):
    assert box.seal(b"x", context="a") != box.seal(b"x", context="a")


def test_it_does_not_open_in_another_row(box: SecretBox):
    sealed = box.seal(b"x", context="workspace/1")
    with pytest.raises(PermanentError, match="another row"):
        box.open(sealed, context="workspace/2")


def test_no_altered_byte_opens(box: SecretBox):
    sealed = box.seal(b"secret", context="a")
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(PermanentError):
            box.open(bytes(altered), context="a")


def test_nothing_cut_off_opens(box: SecretBox):
    sealed = box.seal(b"secret", context="a")
    for length in range(len(sealed)):
        with pytest.raises(PermanentError):
            box.open(sealed[:length], context="a")


def test_it_says_which_keys_there_are_and_which_sealed_what(box: SecretBox):
    keys, sealed = box.keys(), box.seal(b"x", context="a")
    assert box.key_of(sealed) == keys.sealing == keys.ids[0]
    assert sealed.startswith(keys.header)
    assert box.key_of(keys.header) == keys.sealing
    assert box.key_of(b"") not in keys.ids


# --- the key file itself ----------------------------------------------------------------------------------------------


def test_the_file_is_for_its_owner_only_and_stays(tmp_path: Path):
    path = tmp_path / "key"
    sealed = KeyFile.create(path).seal(b"x", context="a")
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyFile.create(path).open(sealed, context="a") == b"x"
    assert KeyFile(path).open(sealed, context="a") == b"x"
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_all_who_create_at_once_get_the_same_key(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        boxes = list(pool.map(lambda _: KeyFile.create(tmp_path / "key"), range(16)))
    sealed = boxes[0].seal(b"x", context="a")
    assert {box.open(sealed, context="a") for box in boxes} == {b"x"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_others_may_read_is_refused(tmp_path: Path, mode: int):
    path = tmp_path / "key"
    KeyFile.create(path)
    path.chmod(mode)
    with pytest.raises(PermanentError, match="chmod 600"):
        KeyFile(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no key"),
        (b"\n\n", "holds no key"),
        (b"abcdef01 !!!!\n", "line 1 is not a key"),
        (b"abcdef01 " + base64.b64encode(b"short") + b"\n", "line 1 is not a key"),
        (b"abc " + base64.b64encode(b"k" * 32) + b"\n", "line 1 is not a key"),
    ],
)
def test_a_damaged_file_is_named_and_not_shown(tmp_path: Path, content: bytes, said: str):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(PermanentError, match=said) as caught:
        KeyFile(path)
    assert str(path) in str(caught.value)
    assert "!!!!" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(PermanentError, match="No such file"):
        KeyFile(tmp_path / "key")


def test_an_older_key_still_opens_and_the_first_one_seals(tmp_path: Path):
    path = tmp_path / "key"
    older = KeyFile.create(path)
    sealed = older.seal(b"x", context="a")
    path.write_bytes(b"newkey01 " + base64.b64encode(secrets.token_bytes(32)) + b"\n" + path.read_bytes())
    both, before = KeyFile(path), path.read_bytes().splitlines(keepends=True)[1]
    assert both.open(sealed, context="a") == b"x"
    again = both.seal(b"x", context="a")
    assert both.open(again, context="a") == b"x"
    path.write_bytes(before)
    with pytest.raises(PermanentError, match="newkey01, which is not in"):
        older.open(again, context="a")


def test_a_key_that_is_added_is_used_without_a_restart(tmp_path: Path):
    path = tmp_path / "key"
    box = KeyFile.create(path)
    (first,) = box.keys().ids
    sealed = box.seal(b"x", context="a")
    path.write_text(new_line() + path.read_text())
    again = box.seal(b"x", context="a")
    assert box.key_of(again) != box.key_of(sealed) == first
    assert again.startswith(box.keys().header)
    assert {box.open(one, context="a") for one in (sealed, again)} == {b"x"}
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    with pytest.raises(PermanentError, match=f"{first}, which is not in"):
        box.open(sealed, context="a")


def test_a_file_that_breaks_leaves_its_keys_in_use_and_is_said(tmp_path: Path):
    path = tmp_path / "key"
    box = KeyFile.create(path)
    sealed = box.seal(b"x", context="a")
    path.write_text("nonsense\n")
    assert box.open(sealed, context="a") == b"x"
    assert box.open(box.seal(b"y", context="a"), context="a") == b"y"
    with pytest.raises(PermanentError, match="line 1 is not a key"):
        box.keys()
    path.unlink()
    assert box.open(sealed, context="a") == b"x"


def test_two_keys_of_one_id_are_refused(tmp_path: Path):
    path = tmp_path / "key"
    KeyFile.create(path)
    path.write_text(path.read_text() * 2)
    with pytest.raises(PermanentError, match="two keys with the id"):
        KeyFile(path)


@pytest.mark.parametrize(
    ("mode", "owner", "reader", "refused"),
    [
        (0o600, 1000, 1000, False),
        (0o400, 1000, 1000, False),
        (0o440, 0, 1000, False),  # a mounted Secret, for the pod's group
        (0o440, 1000, 1000, True),
        (0o440, 0, 0, True),
        (0o460, 0, 1000, True),
        (0o444, 0, 1000, True),
        (0o404, 0, 1000, True),
    ],
)
def test_who_else_may_read_it(*, mode: int, owner: int, reader: int, refused: bool):
    assert exposed(mode, owner=owner, reader=reader) is refused
