"""Secrets: where they come from, what is refused, and that none is ever shown (Y10 to Y13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from crmsync.config import Configuration
from crmsync.errors import ConfigError

Wrong = Callable[..., list[str]]
Load = Callable[..., Configuration]

LITERAL = (
    "a secret must not be written into this file; put it into an environment variable and write ${NAME},"
    " or into a file of its own and write ${file:path}"
)


def secret_file(name: str, content: str, mode: int = 0o600) -> None:
    """A file beside the configuration."""
    Path(name).write_text(content)
    Path(name).chmod(mode)


def test_a_secret_comes_from_the_environment(config_load: Load, base: str, environ: Mapping[str, str]) -> None:
    tenant = config_load(base).tenants[0]

    assert tenant.kirim.api_key.get_secret_value() == environ["KIRIM_KEY"]


def test_a_secret_comes_from_a_file_beside_the_configuration(config_load: Load, base: str) -> None:
    secret_file("token", "from-a-file-0123456789\n")

    tenant = config_load(base.replace("${CRM_TOKEN}", "${file:token}")).tenants[0]

    assert tenant.connections[0].settings.model_dump()["token"].get_secret_value() == "from-a-file-0123456789"


def test_a_file_is_looked_for_beside_the_configuration_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config_load: Load, base: str
) -> None:
    from crmsync.config import load

    config_load(base)  # writes a.yaml into tmp_path
    secret_file("key", "kdv_test_bbbbbbbbbbbbbbbbbbbbbbbb")
    Path("a.yaml").write_text(base.replace("${KIRIM_KEY}", "${file:key}"))
    monkeypatch.chdir("/")

    with pytest.raises(ConfigError) as raised:
        load(tmp_path, environ={}, connectors={})

    assert not [problem for problem in raised.value.problems if problem.key == "kirim.api_key"]


def test_a_reference_may_stand_inside_other_text(config_load: Load, base: str, environ: Mapping[str, str]) -> None:
    text = base.replace("    token:", '    account: "a-${PART}-${PART}$${x}"\n    token:')

    settings = config_load(text, environ={**environ, "PART": "b"}).tenants[0].connections[0].settings

    assert settings.model_dump()["account"] == "a-b-b${x}"


def test_several_webhook_secrets_are_held_at_a_time(config_load: Load, base: str, environ: Mapping[str, str]) -> None:
    text = base.replace('["${KIRIM_SECRET}"]', '["${KIRIM_SECRET}", "${NEXT}"]')

    kirim = config_load(text, environ={**environ, "NEXT": "whsec_" + "b" * 20 + "c"}).tenants[0].kirim

    assert len(kirim.webhook_secrets) == 2


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("${CRM_TOKEN}", "${UNSET}", "a.yaml:10: connections.crm.token: the environment variable UNSET is not set"),
        (
            "${CRM_TOKEN}",
            "${EMPTY}",
            "a.yaml:10: connections.crm.token: the environment variable EMPTY is set but empty",
        ),
        (
            "${CRM_TOKEN}",
            "${file:nothing}",
            "a.yaml:10: connections.crm.token: the secret file nothing cannot be read (No such file or directory)",
        ),
        ("${CRM_TOKEN}", "${file:.}", "a.yaml:10: connections.crm.token: . is not a regular file"),
        (
            "${CRM_TOKEN}",
            "${CRM_TOKEN:-x}",
            "a.yaml:10: connections.crm.token: found ${CRM_TOKEN:-x}; write ${NAME} for an environment variable"
            " or ${file:path} for a file ($${ stands for a literal ${)",
        ),
        (
            "${CRM_TOKEN}",
            "${CRM_TOKEN",
            "a.yaml:10: connections.crm.token: found ${; write ${NAME} for an environment variable"
            " or ${file:path} for a file ($${ stands for a literal ${)",
        ),
        ("${CRM_TOKEN}", "sesame", f"a.yaml:10: connections.crm.token: {LITERAL}"),
        ("${CRM_TOKEN}", "12345", f"a.yaml:10: connections.crm.token: {LITERAL}"),
        ('["${KIRIM_SECRET}"]', "[whsec_sesame]", f"a.yaml:6: kirim.webhook_secrets[0]: {LITERAL}"),
        (
            "${CRM_TOKEN}",
            "${PLACEHOLDER}",
            "a.yaml:10: connections.crm.token: the secret is a placeholder, found in ${PLACEHOLDER}",
        ),
        (
            "${CRM_TOKEN}",
            "${LINES}",
            "a.yaml:10: connections.crm.token: the secret contains a line break or a control character,"
            " found in ${LINES}",
        ),
        (
            "${CRM_TOKEN}",
            '"${CRM_TOKEN} "',
            "a.yaml:10: connections.crm.token: the secret begins or ends with white space or a line break,"
            " found in ${CRM_TOKEN} ",
        ),
        (
            "${KIRIM_SECRET}",
            "${SHORT}",
            "a.yaml:6: kirim.webhook_secrets[0]: the secret is shorter than 24 characters; copy it whole,"
            " with whsec_, found in ${SHORT}",
        ),
        (
            "${KIRIM_SECRET}",
            "${FORGOTTEN}",
            "a.yaml:6: kirim.webhook_secrets[0]: the environment variable FORGOTTEN is not set",
        ),
    ],
)
def test_what_is_no_secret_is_refused(
    wrong: Wrong, base: str, environ: Mapping[str, str], old: str, new: str, line: str
) -> None:
    more = {"EMPTY": " ", "PLACEHOLDER": "Change-Me", "LINES": "one-secret\ntwo-secrets", "SHORT": "whsec_0123456789"}

    assert wrong(base.replace(old, new), environ={**environ, **more}) == [line]


def test_a_secret_file_that_others_can_read_is_refused(wrong: Wrong, base: str) -> None:
    wrong(base)
    secret_file("token", "from-a-file-0123456789", 0o644)

    assert wrong(base.replace("${CRM_TOKEN}", "${file:token}")) == [
        "a.yaml:10: connections.crm.token: the secret file token can be read by others (mode 0644);"
        " run chmod 600 on it, or set daemon.insecure_permissions: true"
    ]


def test_a_secret_file_that_others_can_read_can_be_allowed_in_the_daemons_own_file(
    config_load: Load, base: str
) -> None:
    config_load(base)
    secret_file("token", "from-a-file-0123456789", 0o644)

    configuration = config_load(
        base.replace("${CRM_TOKEN}", "${file:token}"), z="daemon:\n  insecure_permissions: true\n"
    )

    assert [str(warning) for warning in configuration.warnings] == [
        "z.yaml:2: daemon.insecure_permissions: is set: fit for test systems only"
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\n", "is empty"), (b"caf\xe9", "is not UTF-8 text"), (b"x" * 70_000, "is larger than 64 KiB")],
)
def test_a_file_that_holds_no_secret_is_refused(wrong: Wrong, base: str, content: bytes, said: str) -> None:
    wrong(base)
    secret_file("token", "")
    Path("token").write_bytes(content)

    assert wrong(base.replace("${CRM_TOKEN}", "${file:token}")) == [
        f"a.yaml:10: connections.crm.token: the secret file token {said}"
    ]


def test_a_signing_secret_without_its_prefix_is_a_warning(
    config_load: Load, base: str, environ: Mapping[str, str]
) -> None:
    configuration = config_load(base, environ={**environ, "KIRIM_SECRET": "0123456789abcdef0123456789"})

    assert [warning.key for warning in configuration.warnings] == ["kirim"]
    assert "whsec_" in configuration.warnings[0].message


def test_a_value_from_outside_is_shown_by_its_name_only(wrong: Wrong, base: str, environ: Mapping[str, str]) -> None:
    text = base.replace("timezone: Asia/Jakarta", "timezone: ${ZONE}").replace(
        "    token:", "    retries: ${N}\n    token:"
    )

    assert wrong(text, environ={**environ, "ZONE": "Asia/Jakrta", "N": "many"}) == [
        "a.yaml:2: timezone: is no known time zone, found ${ZONE}; did you mean Asia/Jakarta?",
        "a.yaml:10: connections.crm.retries: must be a whole number between 0 and 9, found ${N}",
    ]


def test_no_secret_is_in_any_message_or_representation(
    config_load: Load, wrong: Wrong, base: str, environ: Mapping[str, str]
) -> None:
    """Whatever is wrong elsewhere, and however the configuration is printed."""
    hidden = [*environ.values(), "db-password-1", "literal-canary"]
    database = "daemon:\n  database: postgresql://crm:${DB}@db.example/crm\n"
    outside = {**environ, "DB": "db-password-1"}
    broken = base.replace("token: ${CRM_TOKEN}", "token: literal-canary\n    acount: ${CRM_TOKEN}\n    account: [1]")

    said = [*wrong(broken + database, environ=outside), repr(config_load(base + database, environ=outside))]

    assert len(said) > 3
    assert not [secret for secret in hidden for line in said if secret in line]


def test_a_database_password_in_the_file_is_refused(wrong: Wrong, base: str) -> None:
    assert wrong(base + "daemon:\n  database: postgresql://crm:sesame@db.example/crm\n") == [
        "a.yaml:16: daemon.database: the password must not be written into this file;"
        " write postgresql://user:${NAME}@host/database"
    ]


def test_the_same_secret_for_two_tenants_is_refused(wrong: Wrong, base: str) -> None:
    other = base.replace("tenant: acme", "tenant: other")

    assert wrong(a=base, b=other) == [
        f"b.yaml:{line}: {key}: the same secret is used by another tenant at a.yaml:{line}; each tenant needs its own"
        for line, key in [(5, "kirim.api_key"), (6, "kirim.webhook_secrets[0]"), (10, "connections.crm.token")]
    ]
