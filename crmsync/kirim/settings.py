"""The YAML keys under `kirim:`. Whatever can be told wrong without a request is refused here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from crmsync.connector import ConnectorSettings
from crmsync.model import Rate

DEFAULT_BASE_URL = "https://api.kirimdev.com/v1"
SHORTEST_SECRET = 24
_NUMBER_ID = re.compile(r"[0-9]{6,20}").fullmatch
_HEADER_SAFE = re.compile(r"[!-~]+").fullmatch


class Paths(StrEnum):
    """Where contacts and conversations live: under each number, or as in older hosts under the root."""

    PHONE = "phone"
    ORGANISATION = "organisation"


def _quoted(value: Any) -> Any:
    """An unquoted id is a number to YAML, and a leading zero would be lost without a word."""
    if isinstance(value, int | float):
        raise ValueError('write the id in quotes, like "106540352242922"')
    return value


NumberId = Annotated[str, BeforeValidator(_quoted)]


class KirimSettings(ConnectorSettings):
    """How to reach Kirim, and how to know that a webhook is Kirim's."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    api_key: SecretStr = Field(description="An API key of the organisation (kdv_live_…)")
    webhook_secrets_file: str | None = Field(
        default=None, min_length=1, description="A file of further signing secrets, which a rotation rewrites"
    )
    webhook_secrets: tuple[SecretStr, ...] = Field(
        default=(), validate_default=True, description="Every signing secret that is active, whole, whsec_ included"
    )
    base_url: str = Field(default=DEFAULT_BASE_URL, description="The API, version included")
    phone_number_ids: tuple[NumberId, ...] = Field(default=(), description="The numbers to keep in step, in quotes")
    paths: Paths = Field(default=Paths.PHONE, description="phone, or organisation for hosts of the first generation")
    tolerance_seconds: int = Field(default=300, ge=30, le=600, description="How old or early a signature may be")
    accept_stale_hours: int = Field(
        default=0, ge=0, le=48, description="How old a delivery may be that was never seen; 0 keeps it in quarantine"
    )
    reenable: bool = Field(default=True, description="Switch our webhook subscription on again when Kirim disabled it")
    create_labels: bool = Field(default=False, description="Make labels that the CRM names and Kirim does not have")
    team_id: str | None = Field(default=None, max_length=64, description="The team whose labels are meant")
    accept_test_mode: bool = Field(default=False, description="Take events that say livemode: false")
    read_per_minute: int | None = Field(default=None, ge=1, description="Reads; asked from Kirim if absent")
    write_per_minute: int | None = Field(default=None, ge=1, description="Writes; asked from Kirim if absent")
    timeout_seconds: float = Field(default=30, gt=0, le=120, description="How long an answer may take")
    parallel: int = Field(default=4, ge=1, le=32, description="Requests at the same time")

    @field_validator("api_key")
    @classmethod
    def _key_fits_a_header(cls, value: SecretStr) -> SecretStr:
        key = SecretStr(value.get_secret_value().strip())
        if not _HEADER_SAFE(key.get_secret_value()):
            raise ValueError("must be one word of printable ASCII")
        return key

    @field_validator("webhook_secrets")
    @classmethod
    def _secrets_are_whole(cls, values: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        if not values and info.data.get("webhook_secrets_file", "") is None:
            raise PydanticCustomError("missing", "at least one is needed, here or in webhook_secrets_file")
        secrets = [value.get_secret_value().strip() for value in values]
        for place, secret in enumerate(secrets, start=1):
            if not secret:
                raise ValueError(f"secret {place} is blank")
            if "\n" in secret or "\r" in secret:
                raise ValueError(f"secret {place} has a line break: one secret per entry")
            if len(secret) < SHORTEST_SECRET:
                raise ValueError(f"secret {place} is shorter than {SHORTEST_SECRET} characters")
        return tuple(SecretStr(secret) for secret in dict.fromkeys(secrets))

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError("must be an address like https://api.kirimdev.com/v1")
        if parts.username or parts.query or parts.fragment:
            raise ValueError("must have neither a user name, nor a query, nor a fragment")
        return value.rstrip("/")

    @field_validator("phone_number_ids")
    @classmethod
    def _numbers_are_ids(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for place, value in enumerate(values, start=1):
            if not _NUMBER_ID(value):
                raise ValueError(f"entry {place} is not Meta's id of a number: 6 to 20 digits, no plus sign")
        if len(set(values)) != len(values):
            raise ValueError("names the same number twice")
        return values

    @model_validator(mode="after")
    def _paths_have_numbers(self) -> KirimSettings:
        if self.paths is Paths.PHONE and not self.phone_number_ids:
            raise ValueError("phone_number_ids: at least one is needed unless paths is organisation")
        return self

    def limits(self, documented: Mapping[str, Rate]) -> Mapping[str, Rate]:
        """The documented limits, with those that are configured in their place."""
        given = {"read": self.read_per_minute, "write": self.write_per_minute}
        return {**documented, **{name: Rate(each, 60) for name, each in given.items() if each}}

    def advice(self) -> tuple[str, ...]:
        """What is allowed but looks like a mistake, one sentence each."""
        found = []
        if not self.api_key.get_secret_value().startswith("kdv_"):
            found.append("api_key does not begin with kdv_, as Kirim's keys do.")
        for place, secret in enumerate(self.webhook_secrets, start=1):
            if not secret.get_secret_value().startswith("whsec_"):
                found.append(f"webhook_secrets: secret {place} does not begin with whsec_; the prefix belongs to it.")
        return tuple(found)
