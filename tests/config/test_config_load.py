"""What a configuration may say, and every mistake it can make beyond YAML and secrets (Y9, Y14 to Y19)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from crmsync.config import Address, Configuration, Start, find
from crmsync.core.mapping import OnDrift, Owner
from crmsync.errors import ConfigError
from crmsync.model import FieldType, Kind

Wrong = Callable[..., list[str]]
Load = Callable[..., Configuration]

FIELDS = "connections.crm.contacts.fields"


def test_a_tenant_is_read_whole(config_load: Load, base: str) -> None:
    configuration = config_load(base)

    [tenant] = configuration.tenants
    [connection] = tenant.connections
    assert (tenant.id, tenant.file, tenant.timezone.key, tenant.region) == ("acme", "a.yaml", "Asia/Jakarta", "ID")
    assert tenant.kirim.phone_number_ids == ("106540352242922",)
    assert (connection.name, connection.connector, connection.start) == ("crm", "crm", Start.PLAN)
    assert connection.poll == timedelta(seconds=30)
    assert connection.settings.model_dump()["retries"] == 3
    assert configuration.daemon.listen == Address("127.0.0.1", 8080)
    assert configuration.warnings == ()


def test_rules_take_their_defaults_from_the_kirim_field(config_load: Load, base: str) -> None:
    rules = config_load(base).tenants[0].connections[0].rules[Kind.CONTACT]

    phone, name = rules.fields
    assert (phone.owner, phone.type, phone.kirim_writable) == (Owner.KIRIM, FieldType.PHONE, False)
    assert (name.owner, name.type, name.kirim_writable) == (Owner.CRM, FieldType.TEXT, True)
    assert (rules.region, rules.creates) == ("ID", True)


def test_the_long_form_of_a_field_says_everything(config_load: Load, base: str) -> None:
    text = base.replace("name: firstname", "metadata.tier: { crm: tier, owner: kirim, type: choice, on_drift: report }")

    rule = config_load(text).tenants[0].connections[0].rules[Kind.CONTACT].fields[1]

    assert (rule.kirim, rule.crm, rule.owner) == ("metadata.tier", "tier", Owner.KIRIM)
    assert (rule.type, rule.on_drift) == (FieldType.CHOICE, OnDrift.REPORT)


def test_a_configuration_cannot_be_changed(config_load: Load, base: str) -> None:
    tenant = config_load(base).tenants[0]

    with pytest.raises(dataclasses.FrozenInstanceError):
        tenant.id = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        tenant.connections[0].rules[Kind.CONTACT] = None  # type: ignore[index]


def test_the_same_files_give_equal_configurations(config_load: Load, base: str) -> None:
    assert config_load(base) == config_load(base)


@pytest.mark.parametrize("never", ["0", "null", ""])
def test_a_crm_is_never_asked_for_changes_where_the_file_says_so(config_load: Load, base: str, never: str) -> None:
    text = base.replace("    token:", f"    poll_seconds: {never}\n    token:")

    assert config_load(text).tenants[0].connections[0].poll is None


def test_what_a_connector_cannot_do_is_off_unless_asked_for(config_load: Load, base: str) -> None:
    connection = (
        config_load(base.replace("    token:", "    connector: readonly\n    token:")).tenants[0].connections[0]
    )

    assert connection.poll is None
    assert not connection.rules[Kind.CONTACT].creates


def test_a_file_of_its_own_can_hold_the_daemon(config_load: Load, base: str) -> None:
    daemon = """\
daemon:
  database: postgresql://crm@db.example/crm
  listen: "[::1]:9000"
  public_url: https://sync.example.com/crm/
  log: {level: debug, format: text}
"""
    configuration = config_load(a=base, crmsync=daemon)

    assert configuration.daemon.database == "postgresql://crm@db.example/crm"
    assert str(configuration.daemon.listen) == "[::1]:9000"
    assert configuration.daemon.public_url == "https://sync.example.com/crm"
    assert (configuration.daemon.log.level, configuration.daemon.log.format) == ("debug", "text")


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        # unknown and missing keys
        ("timezone:", "timezon:", ["a.yaml:2: timezon: unknown key; did you mean timezone?"]),
        (
            "  webhook_secrets",
            "  secerts",
            [
                "a.yaml:4: kirim.webhook_secrets: is missing"
                " (Every signing secret that is active, whole, whsec_ included)",
                "a.yaml:6: kirim.secerts: unknown key; did you mean webhook_secrets?",
            ],
        ),
        (
            "    token:",
            "    poll_second: 3\n    token:",
            ["a.yaml:10: connections.crm.poll_second: unknown key; did you mean poll_seconds?"],
        ),
        (
            "    contacts:",
            "    contact:",
            [
                "a.yaml:9: connections.crm.contacts: is missing (which fields of a contact are kept in step)",
                "a.yaml:11: connections.crm.contact: unknown key; did you mean contacts?",
            ],
        ),
        # values of the wrong shape
        ("tenant: acme", "tenant: Acme Inc", [
            "a.yaml:1: tenant: must be 1 to 63 lower-case letters, digits and hyphens,"
            " beginning with a letter or digit, found Acme Inc"
        ]),
        ("Asia/Jakarta", "Asia/Jakata", [
            "a.yaml:2: timezone: is no known time zone, found Asia/Jakata; did you mean Asia/Jakarta?"
        ]),
        ("Asia/Jakarta", "../../etc/passwd", [
            "a.yaml:2: timezone: is no known time zone, found ../../etc/passwd"
        ]),
        ('"ID"', '"62"', ['a.yaml:3: region: must be a two-letter country code such as "ID", found 62']),
        ('"ID"', "id", [
            'a.yaml:3: region: must be a two-letter country code such as "ID", found id; did you mean ID?'
        ]),
        ("    token:", "    start: Live\n    token:", [
            "a.yaml:10: connections.crm.start: must be one of plan, live, found Live; did you mean live?"
        ]),
        ("    token:", "    poll_seconds: 5m\n    token:", [
            "a.yaml:10: connections.crm.poll_seconds: must be a whole number between 0 and 86400, found 5m"
        ]),
        ("    token:", "    ratio: 1\n    token:", [
            "a.yaml:10: connections.crm.ratio: must be a number above 0 and below 1, found 1"
        ]),
        ("    token:", "    word: 7\n    token:", [
            "a.yaml:9: connections.crm: the settings cannot be understood (AttributeError in CrmSettings)"
        ]),
        ("    token:", "    owners: [ann]\n    token:", [
            "a.yaml:10: connections.crm.owners: must be keys and values, found a list"
        ]),
        ('["${KIRIM_SECRET}"]', "[]", [
            "a.yaml:6: kirim.webhook_secrets: is missing"
            " (Every signing secret that is active, whole, whsec_ included)"
        ]),
        ("    token:", "    code: abc\n    token:", [
            "a.yaml:10: connections.crm.code: must have the form ^[0-9]+$, found abc"
        ]),
        ("    token:", '    code: "1234"\n    token:', [
            "a.yaml:10: connections.crm.code: must have at most 3 characters, found 1234"
        ]),
        ('["106540352242922"]', '"106540352242922"', [
            "a.yaml:7: kirim.phone_number_ids: must be a list, found 106540352242922"
        ]),
        # tolerance (Y19)
        *[
            ("  api_key", f"  tolerance_seconds: {value}\n  api_key", [
                f"a.yaml:5: kirim.tolerance_seconds: must be a whole number between 30 and 600, found {value}"
            ])
            for value in ("0", "-1", "1000000000", "5m", "30.5")
        ],
        # connectors
        ("  crm:", "  crn:", [
            "a.yaml:9: connections.crn: there is no connector crn; installed: clashing, crm, hubspot,"
            " readonly, renamed, tickets; did you mean crm?"
        ]),
        ("    token:", "    connector: hubspot\n    token:", [
            "a.yaml:10: connections.crm.connector: the connector hubspot needs the Python package hubspot,"
            " which is not installed; install crmsync[hubspot]"
        ]),
        ("    token:", "    connector: readonly\n    poll_seconds: 30\n    token:", [
            "a.yaml:11: connections.crm.poll_seconds: the connector readonly cannot be asked for changes;"
            " leave the key out"
        ]),
        ("    token:", "    connector: tickets\n    token:", [
            "a.yaml:12: connections.crm.contacts: the connector tickets has no contacts"
        ]),
        ("    token:", "    connector: clashing\n    token:", [
            "a.yaml:10: connections.crm.connector: the connector clashing uses the reserved key start"
        ]),
        ("    token:", "    connector: renamed\n    token:", [
            "a.yaml:10: connections.crm.connector: the connector renamed is installed, but its class is missing"
        ]),
        ("    contacts:", "    connector: readonly\n    contacts:\n      create: true", [
            "a.yaml:13: connections.crm.contacts.create: the connector readonly cannot create records"
        ]),
        ("  crm:", "  kirim:\n    connector: crm", [
            "a.yaml:9: connections.kirim: a connection cannot be called kirim: its webhook address is Kirim's own"
        ]),
        ("  crm:", "  My_CRM:\n    connector: crm", [
            "a.yaml:9: connections.My_CRM: a connection's name must be 1 to 63 lower-case letters, digits and hyphens,"
            " beginning with a letter or digit"
        ]),
        # fields (Y14 to Y16)
        ("phone_number: phone", "phone: phone", [
            f"a.yaml:13: {FIELDS}.phone: is no field of a Kirim contact; did you mean phone_number?"
        ]),
        ("phone_number: phone", "metdata.tier: phone", [
            f"a.yaml:13: {FIELDS}.metdata.tier: is no field of a Kirim contact; did you mean metadata.tier?"
        ]),
        ("phone_number: phone", "shoe_size: phone", [
            f"a.yaml:13: {FIELDS}.shoe_size: is no field of a Kirim contact; known are phone_number, name, email,"
            " acquisition_source, labels, created_at, updated_at and metadata.<key>"
        ]),
        ("name: firstname", "name: phone", [
            f"a.yaml:14: {FIELDS}.name: the CRM field phone is already mapped on line 13"
        ]),
        ("name: firstname", 'name: " "', [f"a.yaml:14: {FIELDS}.name: the CRM's field is empty"]),
        ("name: firstname", 'name: "first\\tname"', [
            f"a.yaml:14: {FIELDS}.name: the CRM's field begins or ends with white space, or is not plain text"
        ]),
        ("name: firstname", "name:", [
            f"a.yaml:14: {FIELDS}.name: must be the CRM's field, or a mapping such as {{ crm: name, owner: crm }}"
        ]),
        ("name: firstname", "name: {owner: crm}", [
            f"a.yaml:14: {FIELDS}.name.crm: is missing (the CRM's field, or several that are one text:"
            " `firstname + lastname`)"
        ]),
        ("name: firstname", "name: {crm: firstname, owner: kirm}", [
            f"a.yaml:14: {FIELDS}.name.owner: must be one of kirim, crm, latest, union, found kirm; did you mean kirim?"
        ]),
        ("name: firstname", "name: {crm: firstname, ownr: crm}", [
            f"a.yaml:14: {FIELDS}.name.ownr: unknown key; did you mean owner?"
        ]),
        ("phone_number: phone", "phone_number: {crm: phone, owner: crm}", [
            f"a.yaml:13: {FIELDS}.phone_number.owner: Kirim's API does not let phone_number be changed,"
            " so the CRM cannot own it; write owner: kirim"
        ]),
        # addresses (Y18)
        *[
            ("  api_key", f"  base_url: {url}\n  api_key", [f"a.yaml:5: kirim.base_url: {said}, found {url}"])
            for url, said in [
                ("http://api.kirimdev.com/v1", "must begin with https:// (a test system may be listed in"
                 " daemon.insecure_targets as api.kirimdev.com:80)"),
                ("https://10.0.0.1/v1", "must name a public host, not an IP address or a local name (a test system may"
                 " be listed in daemon.insecure_targets as 10.0.0.1:443)"),
                ("https://2130706433/v1", "must name a public host, not an IP address or a local name (a test system"
                 " may be listed in daemon.insecure_targets as 2130706433:443)"),
                ("https://[::1]/v1", "must name a public host, not an IP address or a local name (a test system may"
                 " be listed in daemon.insecure_targets as [::1]:443)"),
                ("https://localhost:9001/v1", "must name a public host, not an IP address or a local name (a test"
                 " system may be listed in daemon.insecure_targets as localhost:9001)"),
                ("https://me:you@api.kirimdev.com/v1", "must not contain a user name or password"),
                ("https://api.kirimdev.com/v1/../v2", "must end with the host or a plain path, without ?, # or .."),
                ("https://api.kirimdev.com/v1?x=y", "must end with the host or a plain path, without ?, # or .."),
                ("https://api.kirimdev.com/other", "must have no path but /v1"),
                ("ftp://api.kirimdev.com/v1", "must be an address such as https://api.example.com"),
                ("api.kirimdev.com", "must be an address such as https://api.example.com"),
                ("https://api.kirimdev.com:99999/v1", "must be an address such as https://api.example.com"),
            ]
        ],
        ("    token:", "    base_url: http://crm.example\n    token:", [
            "a.yaml:10: connections.crm.base_url: must begin with https:// (a test system may be listed in"
            " daemon.insecure_targets as crm.example:80), found http://crm.example"
        ]),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_its_line_and_its_cure(
    wrong: Wrong, base: str, old: str, new: str, lines: list[str]
) -> None:
    assert old in base
    assert wrong(base.replace(old, new)) == lines


@pytest.mark.parametrize(
    ("daemon", "lines"),
    [
        ("  listen: 8080", ['a.yaml:16: daemon.listen: must be text, found the number 8080; put it in quotes: "8080"']),
        ("  listen: here", ["a.yaml:16: daemon.listen: must be host:port, such as 127.0.0.1:8080, found here"]),
        (
            "  listen: 127.0.0.1:99999",
            ["a.yaml:16: daemon.listen: must be host:port, such as 127.0.0.1:8080, found 127.0.0.1:99999"],
        ),
        (
            "  database: mysql://x",
            ["a.yaml:16: daemon.database: must be sqlite:///file or postgresql://user@host/database, found mysql://x"],
        ),
        ("  databse: x", ["a.yaml:16: daemon.databse: unknown key; did you mean database?"]),
        (
            "  public_url: http://sync.example.com",
            [
                "a.yaml:16: daemon.public_url: must begin with https:// (a test system may be listed in"
                " daemon.insecure_targets as sync.example.com:80), found http://sync.example.com"
            ],
        ),
        (
            "  log: {level: loud}",
            ["a.yaml:16: daemon.log.level: must be one of debug, info, warning, error, found loud"],
        ),
        ("  log: debug", ["a.yaml:16: daemon.log: must be keys and values, found debug"]),
        (
            "  insecure_permissions: yes",
            [
                "a.yaml:16: daemon.insecure_permissions: must be true or false, found yes,"
                " which YAML reads as the boolean true; write true or false"
            ],
        ),
        (
            "  insecure_targets: [localhost]",
            ["a.yaml:16: daemon.insecure_targets[0]: must be host:port, such as 127.0.0.1:8080, found localhost"],
        ),
    ],
)
def test_a_mistake_about_the_daemon_is_said(wrong: Wrong, base: str, daemon: str, lines: list[str]) -> None:
    assert wrong(f"{base}daemon:\n{daemon}\n") == lines


def test_every_mistake_is_said_at_once_in_the_order_of_the_files(wrong: Wrong, base: str) -> None:
    """Mistakes of every kind, in two files: none hides another."""
    first = (
        base.replace("acme", "Acme")
        .replace("${KIRIM_KEY}", "${UNSET}")
        .replace("    token: ${CRM_TOKEN}", "    token: literal\n    retries: 99")
        .replace("      fields:", "      create: maybe\n      fields:")
        .replace("name: firstname", "nam: phone")
    )

    said = wrong(a=first, b="tenant: [b\n", c="daemon:\n  listen: x\nother: 1\n")

    assert [line.split(": ")[:2] for line in said] == [
        ["a.yaml:1", "tenant"],
        ["a.yaml:5", "kirim.api_key"],
        ["a.yaml:10", "connections.crm.token"],
        ["a.yaml:11", "connections.crm.retries"],
        ["a.yaml:13", "connections.crm.contacts.create"],
        ["a.yaml:16", f"{FIELDS}.nam"],
        ["a.yaml:16", f"{FIELDS}.nam"],
        ["b.yaml:2", "column 1"],
        ["c.yaml:2", "daemon.listen"],
        ["c.yaml:3", "other"],
    ]


def test_everything_required_is_named_when_it_is_missing(wrong: Wrong) -> None:
    assert wrong("timezone: UTC\n") == [
        "a.yaml:1: tenant: is missing (the tenant's name; part of its webhook addresses, never change it later)",
        "a.yaml:1: kirim: is missing (the Kirim account)",
        "a.yaml:1: connections: is missing (the CRMs, by a name of your choice)",
    ]


@pytest.mark.parametrize("empty", ["kirim", "connections"])
def test_a_section_without_content_is_said_once(wrong: Wrong, base: str, empty: str) -> None:
    text = "\n".join(line for line in base.splitlines() if line.startswith(("tenant", empty)) or line[0] != " ")

    assert [line for line in wrong(text) if f" {empty}:" in line] == [
        f"a.yaml:{4 if empty == 'kirim' else 5}: {empty}: must be keys and values, found nothing"
    ]


def test_an_organisation_of_no_connections_is_refused(wrong: Wrong, base: str) -> None:
    text = base[: base.index("connections:")]

    assert wrong(text + "connections: {}\n") == ["a.yaml:8: connections: names no connection"]


def test_a_mapping_without_fields_is_refused(wrong: Wrong, base: str) -> None:
    text = base[: base.index("fields:")]

    assert wrong(text + "fields: {}\n") == [f"a.yaml:12: {FIELDS}: maps no field; write at least phone_number: phone"]


def test_two_connections_cannot_own_the_same_kirim_field(wrong: Wrong, base: str, environ: Mapping[str, str]) -> None:
    second = base[base.index("  crm:") :].replace("  crm:", "  second:\n    connector: crm")

    assert wrong(base + second) == [
        "a.yaml:21: connections.second.contacts.fields.name: the CRM of only one connection can own name:"
        " crm owns it at a.yaml:14; write owner: kirim in one of them"
    ]


def test_two_connections_can_both_follow_kirim(wrong: Wrong, base: str) -> None:
    second = base[base.index("  crm:") :].replace("  crm:", "  second:\n    connector: crm")

    assert wrong(base + second.replace("name: firstname", "name: {crm: firstname, owner: kirim}")) == []


def test_a_mapping_cycle_cannot_be_written(wrong: Wrong, base: str) -> None:
    """Each line is one pair; a second pair with either of its ends is refused, so pairs never form a chain."""
    kirim_twice = base.replace("name: firstname", "name: firstname\n        name: nickname")
    crm_twice = base.replace("name: firstname", "name: firstname\n        metadata.name: firstname")

    assert ["already on line 14" in line for line in wrong(kirim_twice)] == [True]
    assert ["already mapped on line 14" in line for line in wrong(crm_twice)] == [True]


def test_a_tenant_can_be_configured_once(wrong: Wrong, base: str, environ: Mapping[str, str]) -> None:
    other = base.replace("${", "${B_")
    outside = {**environ, **{f"B_{name}": f"{value}-b" for name, value in environ.items()}}

    assert wrong(a=base, b=other, environ=outside) == ["b.yaml:1: tenant: the tenant is already configured at a.yaml:1"]


def test_the_daemon_can_be_configured_once(wrong: Wrong, base: str) -> None:
    assert wrong(a=base + "daemon: {}\n", b="daemon: {}\n") == [
        "b.yaml:1: daemon: the daemon is already configured at a.yaml:15"
    ]


def test_a_daemon_alone_serves_nobody(wrong: Wrong) -> None:
    assert wrong("daemon: {}\n") == ["a.yaml: no tenant is configured; its file begins with `tenant:`"]


def test_a_test_system_may_be_plain_http_where_it_is_listed(config_load: Load, base: str) -> None:
    text = base.replace("  api_key", "  base_url: http://127.0.0.1:9001/kirim/v1\n  api_key").replace(
        "    token:", "    base_url: http://crm.test:9002\n    token:"
    )
    configuration = config_load(text + "daemon:\n  insecure_targets: [127.0.0.1:9001, crm.test:9002]\n")

    assert configuration.tenants[0].kirim.base_url == "http://127.0.0.1:9001/kirim/v1"
    assert [warning.key for warning in configuration.warnings] == ["daemon.insecure_targets"]


def test_a_listed_target_is_another_with_another_port(wrong: Wrong, base: str) -> None:
    text = base.replace("    token:", "    base_url: http://crm.test:9003\n    token:")

    said = wrong(text + "daemon:\n  insecure_targets: [crm.test:9002]\n")

    assert [line.split(": ")[1] for line in said] == ["connections.crm.base_url"]


def test_a_mistake_in_the_daemon_does_not_make_its_targets_forgotten(wrong: Wrong, base: str) -> None:
    text = base.replace("    token:", "    base_url: http://crm.test:9002\n    token:")

    said = wrong(text + "daemon:\n  insecure_targets: [crm.test:9002]\n  listen: x\n")

    assert [line.split(": ")[1] for line in said] == ["daemon.listen"]


def test_a_key_for_real_customers_does_not_go_with_test_systems(
    wrong: Wrong, base: str, environ: Mapping[str, str]
) -> None:
    live = {**environ, "KIRIM_KEY": "kdv_live_aaaaaaaaaaaaaaaaaaaaaaaa"}
    targets = "daemon:\n  insecure_targets: [127.0.0.1:9001]\n"

    assert wrong(base + targets, environ=live) == [
        "a.yaml:5: kirim.api_key: looks like a key for real customers, which must not be used while"
        " daemon.insecure_targets is set; remove one of them"
    ]
    listed = base.replace("  api_key", "  base_url: http://127.0.0.1:9001/v1\n  api_key")
    assert wrong(listed + targets, environ=live) == []
    assert wrong(base, environ=live) == []


def test_the_path_named_wins_over_the_environment_and_the_folder(tmp_path: Path) -> None:
    environ = {"CRMSYNC_CONFIG": "from-environment"}

    assert find(Path("named"), environ, tmp_path) == Path("named")
    assert find(None, environ, tmp_path) == Path("from-environment")
    (tmp_path / "crmsync.yaml").touch()
    assert find(None, {}, tmp_path) == tmp_path / "crmsync.yaml"
    (tmp_path / "config").mkdir()
    assert find(None, {}, tmp_path) == tmp_path / "config"


def test_no_configuration_at_all_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither config/ nor crmsync\.yaml"):
        find(None, {}, tmp_path)
