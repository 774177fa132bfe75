"""The YAML keys of a Salesforce connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from crmsync.connector import ConnectorSettings
from crmsync.model import Rate

FIELD_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,79}$"
SHARED_LOGINS = ("login.salesforce.com", "test.salesforce.com")


class SalesforceSettings(ConnectorSettings):
    """A Salesforce org. The docstrings below the keys are what `crmsync connectors` says about them."""

    model_config = ConfigDict(hide_input_in_errors=True, use_attribute_docstrings=True)

    consumer_key: str = Field(pattern=r"^[\x21-\x7e]{1,500}$")
    """The consumer key of an External Client App (or of a connected app that is there already)."""
    consumer_secret: SecretStr | None = None
    """Client credentials: the app's consumer secret. Needs the org's own login_url."""
    username: str | None = Field(default=None, min_length=3)
    """JWT bearer: the integration user's name. It should be used for nothing else."""
    private_key: SecretStr | None = None
    """JWT bearer: the key (PEM) whose certificate the app holds."""
    login_url: str = "https://login.salesforce.com"
    """Where sessions begin: the org's own domain (https://acme.my.salesforce.com), or the login of all orgs."""
    api_version: str = Field(default="66.0", pattern=r"^[1-9][0-9]\.0$")
    """The version of Salesforce's API."""
    contact_object: Literal["Contact", "Lead"] = "Contact"
    """What a Kirim contact is in Salesforce."""
    external_id: str = Field(default="Kirim_Contact_Id__c", pattern=FIELD_NAME)
    """The field of contacts (or leads) that holds the Kirim contact's id."""
    conversation_external_id: str = Field(default="Kirim_Conversation_Id__c", pattern=FIELD_NAME)
    """The field of cases that holds the Kirim conversation's id."""
    activity_external_id: str = Field(default="Kirim_Key__c", pattern=FIELD_NAME)
    """The field of activities that tells entries apart."""
    task_status: str = Field(default="Completed", min_length=1)
    """The status of the tasks that messages and digests become."""
    allow_duplicates: bool = False
    """Saves records although a duplicate rule of the org warns. What a rule blocks stays blocked."""
    assignment_rules: bool = False
    """Lets the org's assignment rules give away the cases that are written."""
    requests_per_day: int = Field(default=100_000, ge=1_000, le=100_000_000)
    """What of the org's requests in 24 hours may be used."""
    bulk_from: int = Field(default=2_000, ge=0, le=5_000)
    """How many new records of a run are worth a job of the Bulk API; 0 for never."""
    page_size: int = Field(default=2_000, ge=200, le=2_000)
    """Records in one page of a query."""
    poll_overlap_seconds: int = Field(default=300, ge=60, le=3_600)
    """How far a question for changes reaches back behind what Salesforce says is complete."""
    timeout_seconds: float = Field(default=30, gt=0, le=120)
    """How long one request may take."""

    def limits(self, documented: Mapping[str, Rate]) -> Mapping[str, Rate]:
        return {**documented, "": Rate(self.requests_per_day, 86_400, rolling=True)}

    @field_validator("login_url")
    @classmethod
    def _is_an_origin(cls, url: str) -> str:
        parts = urlsplit(url)
        more = parts.username or parts.password or parts.path.strip("/") or parts.query or parts.fragment
        local = parts.scheme == "http"  # which the configuration allows for test systems only
        if more or not parts.hostname or not (local or parts.scheme == "https"):
            raise ValueError("expected https:// and a host, nothing more")
        if not local and (not parts.hostname.endswith(".salesforce.com") or parts.port not in (None, 443)):
            raise ValueError("expected a host of salesforce.com")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _has_one_credential(self) -> Self:
        by_key = (self.username, self.private_key)
        if (self.consumer_secret is None) != all(by_key) or (self.consumer_secret and any(by_key)):
            raise ValueError("expected either consumer_secret, or username and private_key")
        if self.consumer_secret and urlsplit(self.login_url).hostname in SHARED_LOGINS:
            raise ValueError("client credentials need the org's own login_url: https://….my.salesforce.com")
        return self
