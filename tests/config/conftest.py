"""A small connector to configure, the least valid file, and a way to say what is wrong with a changed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import BeforeValidator, Field, SecretStr

from crmsync.config import Configuration, load
from crmsync.connector import Connector, ConnectorSettings, Outcome
from crmsync.errors import ConfigError
from crmsync.model import Can, FieldInfo, FieldType, Kind, Rate, Record, Ref, Write

ENVIRON = {
    "KIRIM_KEY": "kdv_test_aaaaaaaaaaaaaaaaaaaaaaaa",
    "KIRIM_SECRET": "whsec_aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "CRM_TOKEN": "crm-token-aaaaaaaaaaaaaaaa",
}

BASE = """\
tenant: acme
timezone: Asia/Jakarta
region: "ID"
kirim:
  api_key: ${KIRIM_KEY}
  webhook_secrets: ["${KIRIM_SECRET}"]
  phone_number_ids: ["106540352242922"]
connections:
  crm:
    token: ${CRM_TOKEN}
    contacts:
      fields:
        phone_number: phone
        name: firstname
"""


class CrmSettings(ConnectorSettings):
    """Keys of every shape that a connector may have."""

    token: SecretStr
    base_url: str = "https://api.crm.example"
    account: str | None = None
    """Which account."""
    retries: int = Field(3, ge=0, le=9)
    ratio: float = Field(0.5, gt=0, lt=1)
    loud: bool = False
    code: str | None = Field(None, pattern="^[0-9]+$", max_length=3)
    extra: dict[str, Any] = Field(default_factory=dict)
    owners: dict[str, str] = Field(default_factory=dict)
    word: Annotated[str, BeforeValidator(lambda value: value.strip())] = "word"


class Crm(Connector[CrmSettings]):
    """A CRM that only has settings and a schema."""

    name: ClassVar[str] = "crm"
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.CONTACT})
    can: ClassVar[frozenset[Can]] = frozenset({Can.CHANGES, Can.CREATE})
    Settings: ClassVar[type[CrmSettings]] = CrmSettings
    batch_size: ClassVar[int] = 100
    rate: ClassVar[Rate] = Rate(10, 1)

    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        return [FieldInfo("phone", FieldType.PHONE), FieldInfo("firstname", FieldType.TEXT)]

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        raise NotImplementedError

    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        raise NotImplementedError


class ReadOnlyCrm(Crm):
    """A CRM that neither tells changes nor creates."""

    name: ClassVar[str] = "readonly"
    can: ClassVar[frozenset[Can]] = frozenset()


class ClashingSettings(ConnectorSettings):
    """Takes a key that every connection has."""

    start: str = "now"


class ClashingCrm(Crm):
    """A CRM with a setting that nobody could reach."""

    Settings: ClassVar[type[Any]] = ClashingSettings


class TicketCrm(Crm):
    """A CRM of conversations only."""

    name: ClassVar[str] = "tickets"
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.CONVERSATION})


def without_class() -> type[Connector[Any]]:
    """What an entry point does whose class was renamed."""
    raise AttributeError("no attribute 'Crm'")


def not_installed() -> type[Connector[Any]]:
    """What an entry point does whose extra is missing."""
    raise ModuleNotFoundError("No module named 'hubspot'", name="hubspot")


CONNECTORS: Mapping[str, Callable[[], type[Connector[Any]]]] = {
    "crm": lambda: Crm,
    "readonly": lambda: ReadOnlyCrm,
    "hubspot": not_installed,
    "clashing": lambda: ClashingCrm,
    "tickets": lambda: TicketCrm,
    "renamed": without_class,
}

Load = Callable[..., Configuration]
Wrong = Callable[..., list[str]]


@pytest.fixture
def base() -> str:
    """The text of a file with nothing wrong in it."""
    return BASE


@pytest.fixture
def environ() -> dict[str, str]:
    """The environment that the file's references need."""
    return dict(ENVIRON)


@pytest.fixture
def config_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes files (`name=text`, or one text as a.yaml) and loads them, all if there are several."""
    monkeypatch.chdir(tmp_path)

    def run(text: str | bytes | None = None, *, environ: Mapping[str, str] = ENVIRON, **more: str) -> Configuration:
        if text is not None:
            Path("a.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        for name, content in more.items():
            Path(f"{name}.yaml").write_text(content)
        return load(Path() if more else Path("a.yaml"), environ=environ, connectors=CONNECTORS)

    return run


@pytest.fixture
def wrong(config_load: Load) -> Wrong:
    """The lines that say what is wrong with files; none if nothing is."""

    def run(text: str | bytes | None = None, **more: Any) -> list[str]:
        try:
            config_load(text, **more)
        except ConfigError as error:
            return [str(problem) for problem in error.problems]
        return []

    return run
