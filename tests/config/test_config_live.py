"""What of a changed configuration is taken up at once, what waits for a restart, and which files are watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from crmsync.config import Configuration, step, watched
from crmsync.errors import ConfigError
from crmsync.kirim.secrets import FileSecret, write_secrets_file

Load = Callable[..., Configuration]
NEXT = "whsec_bbbbbbbbbbbbbbbbbbbbbbbbbbbb9"
THIRD = "whsec_cccccccccccccccccccccccccccc9"
FILE = "  webhook_secrets_file: secrets/kirim\n  phone_number_ids"


@pytest.fixture
def loaded(config_load: Load, environ: Mapping[str, str]) -> Load:
    """Loads one text, or two as two files; further variables of the environment by name."""

    def run(text: str, other: str | None = None, **more: str) -> Configuration:
        files = {} if other is None else {"b": other}
        return config_load(text, environ={**environ, **more}, **files)

    return run


def secrets(configuration: Configuration) -> list[str]:
    return [secret.get_secret_value() for secret in configuration.tenants[0].kirim.webhook_secrets]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    return tmp_path


@pytest.fixture
def with_file(base: str) -> str:
    return base.replace("  phone_number_ids", FILE)


def test_the_secrets_of_the_file_stand_beside_those_of_the_key(
    loaded: Load, with_file: str, folder: Path, environ: Mapping[str, str]
) -> None:
    write_secrets_file(folder / "secrets" / "kirim", [FileSecret(NEXT, "sec_1"), FileSecret(environ["KIRIM_SECRET"])])
    found = loaded(with_file)

    assert secrets(found) == [environ["KIRIM_SECRET"], NEXT]
    assert found.tenants[0].kirim.webhook_secrets_file == str(folder / "secrets" / "kirim")
    assert NEXT not in repr(found)


def test_a_file_that_is_not_there_yet_is_a_warning_if_there_is_no_other_secret(loaded: Load, with_file: str) -> None:
    assert loaded(with_file).warnings == ()
    alone = loaded(with_file.replace('  webhook_secrets: ["${KIRIM_SECRET}"]\n', ""))

    assert secrets(alone) == []
    assert "no delivery of Kirim is believed" in alone.warnings[0].message


def test_a_file_without_a_secret_is_refused_if_there_is_no_other(loaded: Load, with_file: str, folder: Path) -> None:
    write_secrets_file(folder / "secrets" / "kirim", [])
    assert loaded(with_file)
    with pytest.raises(ConfigError, match="has no secret"):
        loaded(with_file.replace('  webhook_secrets: ["${KIRIM_SECRET}"]\n', ""))


def test_a_file_that_others_can_read_is_refused_unless_that_is_allowed(
    loaded: Load, with_file: str, folder: Path
) -> None:
    write_secrets_file(folder / "secrets" / "kirim", [FileSecret(NEXT)])
    (folder / "secrets" / "kirim").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        loaded(with_file)
    assert NEXT in secrets(loaded(with_file + "daemon:\n  insecure_permissions: true\n"))


def test_the_same_file_secret_for_two_tenants_is_refused(loaded: Load, with_file: str, folder: Path) -> None:
    write_secrets_file(folder / "secrets" / "kirim", [FileSecret(NEXT)])
    second = with_file.replace("tenant: acme", "tenant: other")
    with pytest.raises(ConfigError, match="the same secret is used by another tenant"):
        loaded(with_file, second)


def test_secrets_limits_and_what_is_believed_are_taken_up(loaded: Load, base: str) -> None:
    old = loaded(base)
    new = loaded(
        base.replace("${KIRIM_SECRET}", "${KIRIM_NEXT}")
        .replace("  api_key: ${KIRIM_KEY}", "  api_key: ${KIRIM_OTHER_KEY}\n  accept_stale_hours: 3")
        .replace("${CRM_TOKEN}", "${CRM_NEXT}")
        .replace("timezone:", "deliveries_per_second: 7\ntimezone:"),
        KIRIM_NEXT=NEXT,
        KIRIM_OTHER_KEY="kdv_test_bbbbbbbbbbbbbbbbbbbbbbbb",
        CRM_NEXT="crm-token-bbbbbbbbbbbbbbbb",
    )
    taken = step(old, new)

    assert (taken.waiting, taken.refused) == ((), "")
    assert set(taken.changed) == {
        "acme: kirim.webhook_secrets",
        "acme: kirim.api_key",
        "acme: kirim.accept_stale_hours",
        "acme: deliveries_per_second",
        "acme: connections.crm.token",
    }
    assert taken.configuration.tenants == new.tenants
    assert step(taken.configuration, new).changed == ()


CHANGES = {
    ("Asia/Jakarta", "Asia/Makassar"): "acme: timezone",
    ("name: firstname", "name: lastname"): "acme: connections.crm.contacts",
    ("    token:", "    start: live\n    token:"): "acme: connections.crm.start",
    ("    token:", "    poll_seconds: 5\n    token:"): "acme: connections.crm.poll_seconds",
    ("    token:", "    loud: true\n    token:"): "acme: connections.crm.loud",
    ("  api_key", "  parallel: 2\n  api_key"): "acme: kirim.parallel",
    ("106540352242922", "106540352242923"): "acme: kirim.phone_number_ids",
    ("tenant: acme", "daemon:\n  listen: 127.0.0.1:9\ntenant: acme"): "daemon.listen",
}


@pytest.mark.parametrize(("replaced", "key"), CHANGES.items(), ids=CHANGES.values())
def test_everything_else_waits_for_a_restart_and_is_named(
    loaded: Load, base: str, replaced: tuple[str, str], key: str
) -> None:
    assert replaced[0] in base
    old = loaded(base)
    taken = step(old, loaded(base.replace(*replaced)))

    assert (taken.changed, taken.waiting) == ((), (key,))
    assert taken.configuration.tenants == old.tenants
    assert taken.configuration.daemon == old.daemon


def test_tenants_and_connections_that_come_or_go_wait(loaded: Load, base: str) -> None:
    other = base.replace("tenant: acme", "tenant: other")
    for name in ("KIRIM_KEY", "KIRIM_SECRET", "CRM_TOKEN"):
        other = other.replace(f"${{{name}}}", f"${{OTHER_{name}}}")
    more = {
        "OTHER_KIRIM_KEY": "kdv_test_other0123456789",
        "OTHER_KIRIM_SECRET": THIRD,
        "OTHER_CRM_TOKEN": "crm-token-other123",
    }
    one, two = loaded(base), loaded(base, other, **more)

    assert step(one, two).waiting == ("other: added",)
    assert step(two, one).waiting == ("other: removed",)
    assert step(two, one).configuration.tenants == two.tenants
    renamed = step(one, loaded(base.replace("  crm:", "  crm2:\n    connector: crm")))
    assert renamed.waiting == ("acme: connections.crm (removed)", "acme: connections.crm2 (added)")


def test_the_last_secret_is_never_given_up(loaded: Load, with_file: str, folder: Path) -> None:
    alone = with_file.replace('  webhook_secrets: ["${KIRIM_SECRET}"]\n', "")
    write_secrets_file(folder / "secrets" / "kirim", [FileSecret(NEXT)])
    old = loaded(alone)
    (folder / "secrets" / "kirim").unlink()
    taken = step(old, loaded(alone))

    assert taken.refused
    assert secrets(taken.configuration) == [NEXT]


def test_every_file_is_watched_also_those_that_are_not_there_or_wrong(folder: Path, with_file: str) -> None:
    (folder / "a.yaml").write_text(with_file.replace("${KIRIM_SECRET}", "${file:secrets/next}"))
    (folder / "b.yaml").write_text("tenant: [broken\n")

    assert set(watched(folder)) == {
        folder,
        folder / "a.yaml",
        folder / "b.yaml",
        folder / "secrets" / "next",
        folder / "secrets" / "kirim",
    }
    assert watched(folder / "nothing") == (folder / "nothing",)
