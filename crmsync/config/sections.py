"""The keys of a configuration file that are crmsync's own, with their defaults and what they are for.

Kirim's keys and a connector's keys are pydantic models of their own: they are only mentioned here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import phonenumbers
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from crmsync.config.model import Address, Start
from crmsync.config.words import did_you_mean
from crmsync.core.cron import Cron
from crmsync.core.lens import PhoneFormat, Strangers
from crmsync.core.mapping import OnCrmDelete, OnDrift, Owner
from crmsync.core.messages import Log
from crmsync.model import FieldType

IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
NEVER = "never"
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)
"""Every day there is comes after it, the 29th of February included."""
HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")


def identifier(text: str) -> str:
    """A name that can stand in a path, a metric and a file name alike."""
    if not IDENTIFIER.fullmatch(text):
        raise ValueError("must be 1 to 63 lower-case letters, digits and hyphens, beginning with a letter or digit")
    return text


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        if not known:
            raise ValueError("this machine has no time zone database; install tzdata") from None
        raise ValueError(f"is no known time zone{did_you_mean(text, known)}") from None
    return text


def _region(text: str) -> str:
    known = phonenumbers.SUPPORTED_REGIONS
    if text not in known:
        raise ValueError(f'must be a two-letter country code such as "ID"{did_you_mean(text, known)}')
    return text


def address(text: str) -> Address:
    """`host:port` as an address; IPv6 in brackets."""
    match = HOST_AND_PORT.fullmatch(text)
    if not match or not 0 <= int(match["port"]) <= 65535:
        raise ValueError("must be host:port, such as 127.0.0.1:8080")
    return Address(match["host"].strip("[]"), int(match["port"]))


def _address(text: str) -> str:
    address(text)
    return text.lower()


def _database(text: str) -> str:
    if text.startswith("sqlite:///") and len(text) > len("sqlite:///"):
        return text
    try:
        place = urlsplit(text)  # without a host, or with one in the query, it is a local socket
        if text.startswith("postgresql://") and place.path.strip("/"):
            return text
    except ValueError:
        pass
    raise ValueError("must be sqlite:///file or postgresql://user@host/database")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _cron(text: str) -> str:
    """An expression that comes true some day; `never` is none."""
    if text != NEVER and Cron(text, ZoneInfo("UTC")).after(LONG_AGO) is None:
        raise ValueError("never comes: there is no such day")
    return text


def _poll_cron(text: str) -> str:
    if text == NEVER:
        raise ValueError("can be left out, and is by each connection's poll_seconds then; 0 there never asks")
    return _cron(text)


CronText = Annotated[str, AfterValidator(_cron)]


class ReconcileSection(_Section):
    """The reconciliation by the clock."""

    cron: CronText = Field(description="when; five fields as in crontab, in the tenant's time zone")
    heal: bool = Field(False, description="have written what differs; else it is only reported")
    threshold: Annotated[int, Field(ge=0)] = Field(
        1_000, description="how many records may differ for that; if more do, nothing is healed and people are alerted"
    )


class SchedulesSection(_Section):
    """What is done by the clock. Every expression has five fields as in crontab, or is `never`."""

    poll: Annotated[str, AfterValidator(_poll_cron)] | None = Field(
        None, description="when the CRMs are asked for changes; by default by each connection's poll_seconds"
    )
    segments: CronText = Field("0 * * * *", description="when segments are walked and labels brought up to date")
    sweep: CronText = Field("0 * * * *", description="when Kirim is asked to send again what it gave up")
    retention: CronText = Field("30 3 * * *", description="when what is older than `retention` says is forgotten")
    reconcile: ReconcileSection | None = Field(None, description="when both sides are compared as a whole")


class RetentionSection(_Section):
    """For how many days things are kept."""

    history: Annotated[int, Field(ge=1, le=36_500)] = Field(90, description="why fields hold their values")
    messages: Annotated[int, Field(ge=32, le=36_500)] = Field(
        90, description="messages, and which of them stand on timelines; Kirim can repeat what it sent for 32 days"
    )
    runs: Annotated[int, Field(ge=1, le=36_500)] = Field(90, description="runs that ended, with their reports")
    plans: Annotated[int, Field(ge=1, le=36_500)] = Field(30, description="plans, and what was applied of them")


class TenantSection(_Section):
    """The top of a tenant's file."""

    tenant: Annotated[str, AfterValidator(identifier)] = Field(
        description="the tenant's name; part of its webhook addresses, never change it later"
    )
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        "UTC", description="the tenant's time zone, for days and schedules"
    )
    region: Annotated[str, AfterValidator(_region)] | None = Field(
        None, description="country of phone numbers written without a country code, in quotes"
    )
    deliveries_per_second: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="webhook deliveries taken in per second; above, senders are told to come again"
    )
    schedules: SchedulesSection = Field(
        SchedulesSection.model_validate({}), description="what is done by the clock, in the tenant's time zone"
    )
    retention: RetentionSection = Field(
        RetentionSection.model_validate({}), description="for how many days things are kept"
    )
    kirim: dict[str, Any] = Field(description="the Kirim account")
    connections: dict[str, Any] = Field(description="the CRMs, by a name of your choice")
    daemon: dict[str, Any] | None = Field(None, description="the process; in one file only")


class FieldSection(_Section):
    """One mapped field in its long form."""

    crm: str = Field(description="the CRM's field, or several that are one text: `firstname + lastname`")
    owner: Owner | None = Field(
        None, description="whose value wins; by default Kirim's for channel facts, else the CRM's"
    )
    type: FieldType | None = Field(None, description="how values are compared; by default the Kirim field's type")
    on_drift: OnDrift = Field(
        OnDrift.RESTORE, description="what happens when the side that does not own the field changed it"
    )
    map: dict[str, str | list[str]] | None = Field(
        None, description="Kirim's words and the CRM's; of several the first is written, and all are understood"
    )
    unknown: Strangers = Field(
        Strangers.IGNORE, description="what happens to words that `map` does not name: ignore them, or keep them"
    )
    otherwise: str | None = Field(None, description="the CRM's word for whatever `map` has no word for; or its user")
    separator: Annotated[str, Field(min_length=1, max_length=3)] | None = Field(
        None, description="what stands between the members of a set that the CRM keeps as one text"
    )
    format: PhoneFormat = Field(PhoneFormat.AS_IS, description="how a telephone number is written in the CRM")
    users: dict[str, str] | None = Field(
        None, description="Kirim's users and the CRM's, by id; all others are known by their e-mail"
    )


class MatchSection(_Section):
    """One field by which a person is recognised, in its long form."""

    kirim: str = Field(description="Kirim's field")
    crm: str = Field(description="the CRM's field")


class SegmentSection(_Section):
    """One segment of the CRM whose members get a label in Kirim."""

    segment: Annotated[str, Field(min_length=1)] = Field(description="the segment's name or id")
    label: Annotated[str, Field(min_length=1, max_length=50)] = Field(description="the label in Kirim")
    create_label: bool = Field(False, description="make the label where Kirim has none of that name")
    remove: bool = Field(True, description="take the label from those who leave the segment")
    dwell_minutes: Annotated[int, Field(ge=0, le=10_080)] = Field(
        0, description="how long somebody has to be in, or out, before that counts"
    )
    most_removals: Annotated[int, Field(ge=0)] = Field(
        1_000, description="contacts that one run may take the label from; above it, a person has to allow it"
    )
    most_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="the share of those with the label that one run may take it from"
    )


class MessagesSection(_Section):
    """What of the messages goes onto the CRM's timelines."""

    log: Log = Field(Log.OFF, description="each message, a digest a day, or nothing")
    bodies: bool = Field(True, description="keep and log what was said; else only that something was")


class KindSection(_Section):
    """What is synced of one kind of record."""

    create: bool | None = Field(
        None, description="create records in the CRM that it does not have; by default where the connector can"
    )
    on_crm_delete: OnCrmDelete = Field(
        OnCrmDelete.UNLINK, description="what happens to a record that somebody deletes in the CRM: unlink or recreate"
    )
    initial: dict[str, str] = Field(
        default_factory=dict, description="CRM fields that a new record is made with; {name} and the like are filled in"
    )
    constants: dict[str, str] = Field(default_factory=dict, description="CRM fields that always hold the same")
    fields: dict[str, Any] = Field(description="Kirim field: CRM field, or a mapping with the keys below")


class ConversationsSection(KindSection):
    """What is synced of conversations."""


class ContactsSection(KindSection):
    """What is synced of contacts."""

    match: list[Any] = Field(
        default_factory=list,
        description="mapped Kirim fields by which a record that others made is recognised before one is created",
    )


Most = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
IN_RUN = "records that one run may have written so"
IN_WINDOW = "records that may be written so within the window, apart from runs"
SHARE = "the share of all linked records for either of them, where at least 100 are linked"


class BrakeSection(_Section):
    """The brake on replacing values."""

    most_in_run: Most | None = Field(100_000, description=IN_RUN)
    most_in_window: Most | None = Field(100_000, description=IN_WINDOW)
    most_share: Share | None = Field(None, description=SHARE)


class CreatesBrake(BrakeSection):
    """The brake on creating records."""

    most_in_run: Most | None = Field(1_000_000, description=IN_RUN)


class RemovalsBrake(BrakeSection):
    """The brake on emptying values, or on taking members out of sets."""

    most_in_run: Most | None = Field(1_000, description=IN_RUN)
    most_in_window: Most | None = Field(1_000, description=IN_WINDOW)
    most_share: Share | None = Field(0.5, description=SHARE)


class BrakesSection(_Section):
    """How many records may be written in ways that cannot be taken back."""

    window_minutes: Annotated[int, Field(ge=5, le=10_080)] = Field(60, description="the stretch of time that counts")
    creates: CreatesBrake = Field(CreatesBrake.model_validate({}), description="records that are created")
    overwrites: BrakeSection = Field(
        BrakeSection.model_validate({}), description="records with a value that is replaced by another"
    )
    clears: RemovalsBrake = Field(RemovalsBrake.model_validate({}), description="records with a value that is emptied")
    label_removals: RemovalsBrake = Field(
        RemovalsBrake.model_validate({}), description="records that lose labels, or other members of a set"
    )


class ConnectionSection(_Section):
    """The keys of a connection that every connector shares."""

    connector: str | None = Field(None, description="the kind of CRM; by default the connection's name")
    start: Start = Field(Start.PLAN, description="plan only shows what would be written; live writes")
    poll_seconds: Annotated[int, Field(ge=0, le=86400)] | None = Field(
        30, description="how often the CRM is asked for changes; 0 never asks"
    )
    contacts: dict[str, Any] = Field(description="which fields of a contact are kept in step")
    conversations: dict[str, Any] | None = Field(None, description="which fields of a conversation are kept in step")
    messages: dict[str, Any] | None = Field(None, description="what of the messages goes onto the CRM's timelines")
    brakes: BrakesSection = Field(
        BrakesSection.model_validate({}), description="how far a mistake can reach before writing is paused"
    )
    segments: list[Any] = Field(default_factory=list, description="segments whose members get a label in Kirim")


class LogSection(_Section):
    """Logging."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")
    format: Literal["json", "text"] = Field("json", description="json for machines, text for people")


class DaemonSection(_Section):
    """What concerns the process."""

    database: Annotated[str, AfterValidator(_database)] = Field(
        "sqlite:///crmsync.db", description="sqlite:///file for one process, postgresql://… for several"
    )
    listen: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1:8080", description="where webhooks and the status page are served"
    )
    public_url: str | None = Field(None, description="the address under which platforms reach `listen`")
    insecure_targets: list[Annotated[str, AfterValidator(_address)]] = Field(
        default_factory=list, description="host:port that may be plain http or private; for test systems only"
    )
    insecure_permissions: bool = Field(False, description="accept secret files that others can read")
    alert_url: SecretStr | None = Field(
        None, description="a Slack-compatible webhook that is told when people are needed"
    )
    disk_floor_mb: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        200, description="free megabytes beside a SQLite file below which the daemon is not ready"
    )
    metrics: Annotated[str, AfterValidator(_address)] | None = Field(
        None, description="where /metrics is served; by default on `listen`, to this machine only"
    )
    log: LogSection = Field(LogSection.model_validate({}), description="logging")
