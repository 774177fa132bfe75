"""The files in config/ are true: they load, and the example explains every key there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crmsync.config import SchemaKey, describe_schema, load
from crmsync.connector import installed

CONFIG = Path(__file__).parents[2] / "config"
REFERENCE = re.compile(r"\$\{([A-Z_]+)\}")


def dummy_environment(*names: str) -> dict[str, str]:
    """Something for every variable that the files name, different for each."""
    text = "".join((CONFIG / name).read_text() for name in names)
    return {name: f"whsec_{name.lower()}_0123456789abcdef" for name in REFERENCE.findall(text) if name != "NAME"}


def schema() -> tuple[SchemaKey, ...]:
    """Every key, those of the connectors in this repository included."""
    pytest.importorskip("hubspot", reason="the example uses the HubSpot connector")
    return describe_schema({name: point.load() for name, point in installed().items()})


def test_the_example_loads_without_a_warning() -> None:
    pytest.importorskip("hubspot", reason="the example uses the HubSpot connector")
    configuration = load(CONFIG / "example.yaml", environ=dummy_environment("example.yaml"))

    assert [tenant.id for tenant in configuration.tenants] == ["acme"]
    assert [warning.message for warning in configuration.warnings] == [
        "api_key does not begin with kdv_, as Kirim's keys do."  # the dummy's doing
    ]


def test_all_files_load_as_one_folder() -> None:
    pytest.importorskip("hubspot", reason="the examples use the HubSpot connector")
    pytest.importorskip("simple_salesforce", reason="the examples use the Salesforce connector")
    files = sorted(path.name for path in CONFIG.glob("*.yaml"))
    configuration = load(CONFIG, environ=dummy_environment(*files))

    assert sorted(tenant.id for tenant in configuration.tenants) == ["acme", "toko", "warung"]


def example_of(key: SchemaKey) -> str:
    """Where a key is explained: a connector other than HubSpot has a file of its own."""
    own = CONFIG / f"example-{key.connector}.yaml"
    return (own if own.exists() else CONFIG / "example.yaml").read_text()


def test_the_example_mentions_every_key() -> None:
    """With its value, or, for the keys of a field, in the explanation above them."""
    assert [key.path for key in schema() if not re.search(rf"\b{key.name}(:|   )", example_of(key))] == []


@pytest.mark.parametrize("key", ["region", "timezone", "start", "poll_seconds", "listen", "database", "external_id"])
def test_what_the_example_calls_the_default_is_the_default(key: str) -> None:
    text = (CONFIG / "example.yaml").read_text()
    [found] = [entry for entry in schema() if entry.name == key and entry.connector in ("", "hubspot")]
    [(comment, value)] = re.findall(rf"((?: *#.*\n)+) *{key}: (.*)\n", text)

    said = re.search(r"Default: ([^\s.,;]+)", comment)
    assert found.default == (said[1] if said else value)


def test_every_key_of_crmsync_itself_says_what_it_is_for() -> None:
    assert [key.path for key in schema() if not key.doc and not key.connector] == []


def test_the_schema_tells_types_defaults_and_secrets() -> None:
    keys = {(key.path, key.connector): key for key in schema()}

    key = keys["kirim.api_key", ""]
    token = keys["connections.<name>.access_token", "hubspot"]
    poll = keys["connections.<name>.poll_seconds", ""]
    level = keys["daemon.log.level", ""]
    assert (key.type, key.default) == ("text, secret", None)
    assert (token.type, token.default) == ("text, secret", "none")
    assert (poll.type, poll.default) == ("a whole number between 0 and 86400", "30")
    assert (level.type, level.default) == ("one of debug, info, warning, error", "info")
    assert keys["connections.<name>.portal_id", "hubspot"].doc.startswith("The account's id")
