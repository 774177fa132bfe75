"""What YAML does to people, and what is said about it (Y1 to Y8)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from crmsync.config.source import Trap, read, scalar

Wrong = Callable[..., list[str]]


def changed(base: str, old: str, new: str) -> str:
    """The base file with one line changed, which must be there."""
    assert old in base
    return base.replace(old, new)


def test_the_base_file_is_right(wrong: Wrong, base: str) -> None:
    assert wrong(base) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(b"", "a.yaml:1: the file is empty; it needs at least `tenant:` or `daemon:`", id="empty"),
        pytest.param(
            b"# only this\n", "a.yaml:1: the file is empty; it needs at least `tenant:` or `daemon:`", id="comment only"
        ),
        pytest.param(b"- a\n", "a.yaml:1: the file must hold keys and values (`tenant: …`), found a list", id="a list"),
        pytest.param(
            b"acme\n", "a.yaml:1: the file must hold keys and values (`tenant: …`), found a single value", id="a word"
        ),
        pytest.param(
            b"tenant: acme\nkirim:\n\tapi_key: x\n",
            "a.yaml:3: column 1: a tab; YAML is indented with spaces",
            id="a tab",
        ),
        pytest.param(
            b"tenant: acme\nregion: caf\xe9\n",
            "a.yaml:2: column 12: the file is not UTF-8; save it as UTF-8",
            id="latin-1",
        ),
        pytest.param(
            b'tenant: acme\nregion: "ID\nkirim:\n',
            "a.yaml:2: column 9: the quote that opens here is never closed",
            id="unclosed double quote",
        ),
        pytest.param(
            b"tenant: 'acme\n", "a.yaml:1: column 9: the quote that opens here is never closed", id="unclosed quote"
        ),
        pytest.param(
            b"tenant: a\x00b\n", "a.yaml:1: column 10: a control character that YAML does not allow", id="NUL"
        ),
        pytest.param(
            b"tenant: a\n---\ntenant: b\n",
            "a.yaml:2: a second document (---) begins here; one file holds one tenant",
            id="two documents",
        ),
        pytest.param(
            b"kirim:\n  webhook_secrets: [${SECRET}]\n",
            'a.yaml:2: column 21: inside [ ] and { } a reference needs quotes: "${NAME}"',
            id="a bare reference in a list",
        ),
        pytest.param(b"? [a, b]\n: c\n", "a.yaml:1: a key must be a single word or a quoted text", id="a list as key"),
        pytest.param(b"[" * 50, "a.yaml:1: nested deeper than 24 levels", id="too deep"),
        pytest.param(b"#" * (1024 * 1024 + 1), "a.yaml: the file is larger than 1 MiB", id="too large"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(wrong: Wrong, text: bytes, line: str) -> None:
    assert wrong(text) == [line]


def test_other_syntax_errors_name_line_and_column(wrong: Wrong) -> None:
    [line] = wrong("tenant: acme\nkirim: {api_key: x\nregion: ID\n")

    assert line.startswith("a.yaml:3: column ")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        pytest.param(
            'region: "ID"',
            "region: NO",
            'a.yaml:3: region: must be text, found NO, which YAML reads as the boolean false; put it in quotes: "NO"',
            id="Norway",
        ),
        pytest.param(
            "tenant: acme",
            "tenant: on",
            'a.yaml:1: tenant: must be text, found on, which YAML reads as the boolean true; put it in quotes: "on"',
            id="on",
        ),
        pytest.param(
            "tenant: acme",
            "tenant: true",
            'a.yaml:1: tenant: must be text, found the boolean true; put it in quotes: "true"',
            id="true",
        ),
        pytest.param(
            '["106540352242922"]',
            "[106540352242922]",
            'a.yaml:7: kirim.phone_number_ids[0]: write the id in quotes, like "106540352242922"',
            id="an unquoted id",
        ),
        pytest.param(
            '["106540352242922"]',
            "[+628111222333]",
            "a.yaml:7: kirim.phone_number_ids[0]: must be text, found +628111222333, which YAML reads as"
            ' the number 628111222333; put it in quotes: "+628111222333"',
            id="a phone number",
        ),
        pytest.param(
            "token: ${CRM_TOKEN}",
            "token: ${CRM_TOKEN}\n    account: 0711",
            "a.yaml:11: connections.crm.account: must be text, found 0711, which YAML reads as the number 457;"
            ' put it in quotes: "0711"',
            id="octal",
        ),
        pytest.param(
            "token: ${CRM_TOKEN}",
            "token: ${CRM_TOKEN}\n    account: 1:30",
            "a.yaml:11: connections.crm.account: must be text, found 1:30, which YAML reads as the number 90;"
            ' put it in quotes: "1:30"',
            id="sexagesimal",
        ),
        pytest.param(
            "token: ${CRM_TOKEN}",
            "token: ${CRM_TOKEN}\n    account: 12_000",
            "a.yaml:11: connections.crm.account: must be text, found 12_000, which YAML reads as the number 12000;"
            ' put it in quotes: "12_000"',
            id="underscores",
        ),
        pytest.param(
            "token: ${CRM_TOKEN}",
            "token: ${CRM_TOKEN}\n    account: 2026-01-02",
            "a.yaml:11: connections.crm.account: must be text, found 2026-01-02, which YAML reads as a date;"
            ' put it in quotes: "2026-01-02"',
            id="date",
        ),
        pytest.param(
            "token: ${CRM_TOKEN}",
            "token: ${CRM_TOKEN}\n    account: 12345",
            'a.yaml:11: connections.crm.account: must be text, found the number 12345; put it in quotes: "12345"',
            id="number",
        ),
        pytest.param(
            "token: ${CRM_TOKEN}",
            "token: ${CRM_TOKEN}\n    retries: 0x3",
            "a.yaml:11: connections.crm.retries: must be a whole number between 0 and 9, found 0x3,"
            " which YAML reads as the number 3; write plain decimal digits",
            id="hexadecimal for a number",
        ),
        pytest.param(
            "token: ${CRM_TOKEN}",
            "token: ${CRM_TOKEN}\n    loud: on",
            "a.yaml:11: connections.crm.loud: must be true or false, found on,"
            " which YAML reads as the boolean true; write true or false",
            id="on for a boolean",
        ),
        pytest.param(
            "token: ${CRM_TOKEN}",
            "token: ${CRM_TOKEN}\n    retries: true",
            "a.yaml:11: connections.crm.retries: must be a whole number between 0 and 9, found the boolean true",
            id="a boolean for a number",
        ),
        pytest.param(
            "token: ${CRM_TOKEN}",
            "token: ${CRM_TOKEN}\n    extra: {a: yes}",
            "a.yaml:11: connections.crm.extra.a: found yes, which YAML reads as the boolean true;"
            ' put it in quotes: "yes"',
            id="where a connector takes anything",
        ),
        pytest.param(
            "token: ${CRM_TOKEN}",
            "token: ${CRM_TOKEN}\n    owners: {ann: 0711}",
            "a.yaml:11: connections.crm.owners.ann: must be text, found 0711, which YAML reads as the number 457;"
            ' put it in quotes: "0711"',
            id="inside a mapping",
        ),
        pytest.param(
            "phone_number: phone",
            "phone_number: NO",
            "a.yaml:13: connections.crm.contacts.fields.phone_number: must be text, found NO,"
            ' which YAML reads as the boolean false; put it in quotes: "NO"',
            id="a CRM field",
        ),
    ],
)
def test_what_looks_like_text_and_is_not_is_refused(wrong: Wrong, base: str, old: str, new: str, line: str) -> None:
    assert [said.split(", found 1065")[0] for said in wrong(changed(base, old, new))] == [line]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("acme", "acme"),
        ("42", 42),
        ("-7", -7),
        ("0.5", 0.5),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("08111", "08111"),  # no octal number: YAML itself leaves it alone
        ("1e9", "1e9"),
        ("<<", "<<"),
        ("no", Trap("no", "the boolean false")),
        ("+1", Trap("+1", "the number 1")),
        ("0b11", Trap("0b11", "the number 3")),
        (".inf", Trap(".inf", "a number")),
        ("9" * 5000, Trap("9" * 5000, "a number")),
    ],
)
def test_only_the_plain_spelling_of_a_number_or_boolean_is_one(text: str, value: object) -> None:
    assert scalar(text) == value


def test_a_duplicate_key_names_both_lines(wrong: Wrong, base: str) -> None:
    assert wrong(changed(base, "        name: firstname", "        name: firstname\n        name: fullname")) == [
        "a.yaml:15: connections.crm.contacts.fields.name: the key is already on line 14; a key may come once"
    ]


def test_a_duplicate_section_does_not_hide_the_first(wrong: Wrong, base: str) -> None:
    """The mistakes of the section that is kept are still told, with their own lines."""
    assert wrong(changed(base, "    token: ${CRM_TOKEN}", "    tokn: x") + "connections: {}\n") == [
        "a.yaml:9: connections.crm.token: is missing",
        "a.yaml:10: connections.crm.tokn: unknown key; did you mean token?",
        "a.yaml:15: connections: the key is already on line 8; a key may come once",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("!!python/object/apply:os.system [id]", "found the tag !!python/object/apply:os.system"),
        ("!!str acme", "found the tag !!str"),
        ("!custom acme", "found the tag !custom"),
    ],
)
def test_tags_are_refused_and_never_run(wrong: Wrong, base: str, value: str, said: str) -> None:
    assert wrong(changed(base, "acme", value)) == [f"a.yaml:1: tenant: {said}; tags are not allowed"]


def test_anchors_and_aliases_are_refused(wrong: Wrong, base: str) -> None:
    text = changed(base, "phone_number: phone", "phone_number: &p phone")
    assert wrong(changed(text, "name: firstname", "name: *p")) == [
        "a.yaml:13: connections.crm.contacts.fields.phone_number: found the anchor &p;"
        " anchors and aliases are not allowed",
        "a.yaml:14: connections.crm.contacts.fields.name: found the alias *p;"
        " anchors and aliases are not allowed, write the value out",
    ]


def test_an_alias_bomb_is_refused_without_being_opened(wrong: Wrong) -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefghij", "bcdefghijk", strict=True)
    )

    assert "anchors and aliases are not allowed" in wrong(bomb)[0]


def test_a_byte_order_mark_does_not_matter(wrong: Wrong, base: str) -> None:
    assert wrong(b"\xef\xbb\xbf" + base.encode()) == []


def test_a_value_below_its_key_is_reported_at_the_key(wrong: Wrong, base: str) -> None:
    assert wrong(changed(base, "timezone: Asia/Jakarta", "timezone:\n\n  Mars/Olympus")) == [
        "a.yaml:2: timezone: is no known time zone, found Mars/Olympus"
    ]


def test_a_missing_path_is_said(tmp_path: Path) -> None:
    from crmsync.config import load
    from crmsync.errors import ConfigError

    with pytest.raises(ConfigError, match=r"nowhere: there is no such file or folder"):
        load(tmp_path / "nowhere", environ={})


def test_a_folder_without_yaml_is_said(tmp_path: Path) -> None:
    from crmsync.config import load
    from crmsync.errors import ConfigError

    (tmp_path / "notes.txt").write_text("tenant: acme")
    (tmp_path / ".hidden.yaml").write_text("tenant: acme")
    with pytest.raises(ConfigError, match=r"the folder has no file that ends in \.yaml or \.yml"):
        load(tmp_path, environ={})


def test_a_directory_that_is_called_like_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()

    document, problems = read(tmp_path / "a.yaml")

    assert document is None
    assert [problem.message for problem in problems] == ["is not a regular file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_an_unreadable_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("tenant: acme")
    path.chmod(0)

    _, problems = read(path)

    assert [problem.message for problem in problems] == ["the file cannot be read (Permission denied)"]
