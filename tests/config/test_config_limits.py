"""Schedules, retention and brakes: defaults, zones, and mistakes with file, line and key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from crmsync.config import Configuration
from crmsync.core.brakes import Brake, Limit, Limits
from crmsync.core.cron import Cron
from crmsync.core.schedules import POLL, RECONCILE, RETENTION, SEGMENTS, SWEEP
from crmsync.flows.retention import Retention

Wrong = Callable[..., list[str]]
Load = Callable[..., Configuration]
JAKARTA = ZoneInfo("Asia/Jakarta")


def test_segments_and_sweeps_come_every_hour_unless_said_otherwise(config_load: Load, base: str) -> None:
    (tenant,) = config_load(base).tenants

    hourly = Cron("0 * * * *", JAKARTA)
    assert dict(tenant.schedules.crons) == {
        SEGMENTS: hourly,
        SWEEP: hourly,
        RETENTION: Cron("30 3 * * *", JAKARTA),
    }


def test_everything_can_be_planned_in_the_tenants_zone(config_load: Load, base: str) -> None:
    text = 'schedules:\n  poll: "*/5 * * * *"\n  segments: never\n  sweep: "@daily"\n  retention: "@weekly"\n'
    text += '  reconcile: { cron: "15 3 * * 0", heal: true, threshold: 20 }\n'
    (tenant,) = config_load(base + text).tenants

    crons = {POLL: "*/5 * * * *", SWEEP: "@daily", RETENTION: "@weekly", RECONCILE: "15 3 * * 0"}
    assert dict(tenant.schedules.crons) == {name: Cron(text, JAKARTA) for name, text in crons.items()}
    assert (tenant.schedules.heal, tenant.schedules.threshold) == (True, 20)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('sweep: "61 * * * *"', "sweep: cannot be read as a cron expression"),
        ('segments: "* * *"', "segments: has 3 fields, found * * *; five are needed"),
        ('segments: "0 0 1 * 1"', "segments: names a day of the month and a day of the week"),
        ('sweep: "0 0 30 2 *"', "sweep: never comes"),
        ("poll: never", "poll: can be left out"),
        ('reconcil: "0 * * * *"', "reconcil: unknown key; did you mean reconcile?"),
        ("reconcile: { heal: true }", "reconcile.cron: is missing"),
        ('reconcile: { cron: "0 24 * * *" }', "reconcile.cron: cannot be read as a cron expression"),
    ],
)
def test_a_mistake_names_file_line_and_key(wrong: Wrong, base: str, text: str, said: str) -> None:
    (line,) = wrong(f"{base}schedules:\n  {text}\n")

    assert line.startswith(("a.yaml:15: ", "a.yaml:16: "))
    assert said in line


def test_everything_is_kept_for_ninety_days_and_plans_for_thirty(config_load: Load, base: str) -> None:
    (tenant,) = config_load(base).tenants
    (other,) = config_load(f"{base}retention: {{ history: 400, messages: 32, plans: 1 }}\n").tenants

    assert tenant.retention == Retention(*(timedelta(days=days) for days in (90, 90, 90, 30)))
    assert other.retention == Retention(*(timedelta(days=days) for days in (400, 32, 90, 1)))


def test_messages_are_kept_for_as_long_as_they_can_be_repeated(wrong: Wrong, base: str) -> None:
    (line,) = wrong(f"{base}retention: {{ messages: 7 }}\n")

    assert line.startswith("a.yaml:15: retention.messages: must be a whole number between 32 and 36500")


def test_brakes_have_room_for_a_first_backfill_and_can_be_set_one_by_one(config_load: Load, base: str) -> None:
    (tenant,) = config_load(base).tenants
    text = "    brakes: { window_minutes: 30, creates: { most_in_run: 5 }, clears: { most_share: null } }\n"
    (other,) = config_load(base + text).tenants

    assert tenant.connections[0].brakes == Limits()
    assert other.connections[0].brakes.window == timedelta(minutes=30)
    assert other.connections[0].brakes.of[Brake.CREATE] == Limit(5, 100_000)
    assert other.connections[0].brakes.of[Brake.CLEAR] == Limit(1_000, 1_000)


def test_a_mistake_in_the_brakes_names_file_line_and_key(wrong: Wrong, base: str) -> None:
    said = wrong(f"{base}    brakes:\n      clears: {{ most_share: 2, most_in_runs: 1 }}\n")

    assert [line.split(": ")[:2] for line in said] == [
        ["a.yaml:16", "connections.crm.brakes.clears.most_share"],
        ["a.yaml:16", "connections.crm.brakes.clears.most_in_runs"],
    ]
