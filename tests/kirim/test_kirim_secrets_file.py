"""The file that a rotation of secrets rewrites."""

import os
import stat
from pathlib import Path

import pytest

from crmsync.errors import ConfigError
from crmsync.kirim.secrets import FileSecret, read_secrets_file, write_secrets_file

OLD = "whsec_0123456789abcdefghijklmnop"
NEW = "whsec_zyxwvutsrqponmlkjihgfedcba"


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    secrets = (FileSecret(OLD, "sec_1"), FileSecret(NEW))
    write_secrets_file(tmp_path / "secrets", secrets)
    assert read_secrets_file(tmp_path / "secrets") == secrets


def test_only_the_owner_may_read_what_was_written_whatever_stood_there_before(tmp_path: Path) -> None:
    path = written(tmp_path / "secrets", OLD, 0o644)
    write_secrets_file(path, [FileSecret(NEW)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secrets"]


def test_blank_lines_comments_white_space_and_a_mark_of_byte_order_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path / "secrets", f"\ufeff# old first\r\n\r\n  {OLD}   sec_1  \r\n#{NEW}\n\t{NEW}")
    assert read_secrets_file(path) == (FileSecret(OLD, "sec_1"), FileSecret(NEW, None))


def test_a_secret_written_twice_counts_once_and_keeps_its_id(tmp_path: Path) -> None:
    path = written(tmp_path / "secrets", f"{OLD} sec_1\n{OLD}\n")
    assert read_secrets_file(path) == (FileSecret(OLD, "sec_1"),)


def test_a_file_that_does_not_exist_has_no_secrets(tmp_path: Path) -> None:
    assert read_secrets_file(tmp_path / "secrets") == ()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("short\n", 1, "shorter than 24"),
        (f"{OLD}\n\n{NEW} sec_1 sec_2\n", 3, "more than a secret and its id"),
        (f"sec_1 {OLD}\n", 1, "shorter than 24"),
        (f"sec_1234567890123456789012345 {OLD}\n", 1, "begins with an id"),
        ("x" * 30, 1, "placeholder"),
        (f"{OLD} sec/1", 1, "the id is not"),
        (f"{OLD}\u00e9\n", 1, "printable ASCII"),
    ],
)
def test_a_mistake_is_named_by_its_line_and_never_quoted(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_secrets_file(written(tmp_path / "secrets", text))
    (problem,) = caught.value.problems
    assert (problem.line, said in problem.message) == (line, True)
    assert OLD not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_file_that_others_may_touch_is_refused_unless_that_is_allowed(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "secrets", OLD, mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}"):
        read_secrets_file(path)
    assert read_secrets_file(path, insecure=True) == (FileSecret(OLD),)


def test_a_folder_or_something_huge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_secrets_file(tmp_path)
    with pytest.raises(ConfigError, match="64 KiB"):
        read_secrets_file(written(tmp_path / "secrets", "#" * 70_000))


def test_what_could_not_be_read_again_is_not_written_and_the_old_file_stays(tmp_path: Path) -> None:
    path = written(tmp_path / "secrets", f"{OLD}\n")
    for bad in (FileSecret("two words that are long enough"), FileSecret(NEW, "a b"), FileSecret("short")):
        with pytest.raises(ValueError, match=r"secret|id"):
            write_secrets_file(path, [FileSecret(NEW), bad])
    assert read_secrets_file(path) == (FileSecret(OLD),)
    assert os.listdir(tmp_path) == ["secrets"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    write_secrets_file(tmp_path / "real", [FileSecret(OLD)])
    (tmp_path / "link").symlink_to("real")
    write_secrets_file(tmp_path / "link", [FileSecret(NEW)])
    assert (tmp_path / "link").is_symlink()
    assert read_secrets_file(tmp_path / "real") == (FileSecret(NEW),)


def test_a_secret_does_not_show_in_its_repr() -> None:
    assert OLD not in repr(FileSecret(OLD, "sec_1"))
