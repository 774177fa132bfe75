"""The demonstration: its command from end to end, and its verdict, which has to find what is planted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import phonenumbers
import pytest

from crmsync.core.canonical import same
from crmsync.model import FieldType
from crmsync.sandbox.crm import HubSpotCrm
from crmsync.sandbox.fields import EXTERNAL_ID, FIELDS, Side, in_kirim, plain_phone
from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.hubspot.records import Source
from crmsync.sandbox.kirim import KirimEmulator
from crmsync.sandbox.ledger import Effect
from crmsync.sandbox.people import Pen
from crmsync.sandbox.timeline import Timeline
from crmsync.sandbox.verdict import Circumstances, Verdict, judge, percentile, write_calls

REQUIRED = {
    "contacts",
    "fields_compared",
    "fields_agreed",
    "events_acknowledged",
    "events_lost",
    "duplicates",
    "echo_writes",
    "crm_calls",
    "kirim_calls",
    "p50_ms",
    "p95_ms",
}
DEMO = (sys.executable, "-m", "crmsync", "demo", "--contacts", "20", "--seconds", "4")


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *options],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(("crm", "name"), [("hubspot", "HubSpot"), ("salesforce", "Salesforce")])
def test_the_demo_prints_one_json_object_and_leaves_nothing_behind(tmp_path: Path, crm: str, name: str) -> None:
    ended = run(tmp_path, "--json", "--crm", crm)

    told = json.loads(ended.stdout)
    assert told.keys() >= REQUIRED
    assert told["crm"] == name
    assert (ended.returncode, told["findings"]) == (0, [])
    assert told["contacts"] == 20
    assert told["fields_agreed"] == told["fields_compared"] == 20 * len(FIELDS)
    assert told["events_acknowledged"] >= 20
    assert told["p50_ms"] > 0
    assert told["events_lost"] == told["duplicates"] == told["echo_writes"] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_kept_folder_answers_the_commands_that_the_demo_names(tmp_path: Path) -> None:
    ended = run(tmp_path, "--keep")

    commands = re.findall(r"^  crmsync (\w+) (.*)$", ended.stdout, re.MULTILINE)
    assert ended.returncode == 0, ended.stdout
    assert [name for name, _ in commands] == ["explain", "status"]
    for name, arguments in commands:
        answered = subprocess.run(
            [sys.executable, "-m", "crmsync", name, *arguments.split()], capture_output=True, text=True, check=False
        )
        assert answered.returncode == 0, answered.stderr
    secrets = next(tmp_path.glob("crmsync-demo-*/secrets")).iterdir()
    assert {place.stat().st_mode & 0o777 for place in secrets} == {0o600}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_its_daemon_and_its_folder_along(tmp_path: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [*DEMO, "--json"], env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    locks = _awaited(tmp_path)
    daemon = int(locks.read_text().split()[1])

    demo.send_signal(number)
    demo.communicate(timeout=30)

    assert demo.returncode == 130
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(daemon, 0)


def _awaited(folder: Path) -> Path:
    """The daemon's lock file, which names its process."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for lock in folder.glob("crmsync-demo-*/crmsync.db.lock"):
            if lock.read_text().startswith("process "):
                return lock
        time.sleep(0.02)
    raise AssertionError("no daemon was started")


# -- the verdict, on platforms without a daemon: the test itself plays the daemon's part


class World:
    """Both platforms with one contact, in agreement."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 12, tzinfo=UTC)
        self.kirim = KirimEmulator(clock=self.clock)
        self.hubspot = HubSpotEmulator(clock=self.clock)
        self.hubspot.properties.define(EXTERNAL_ID, unique=True)
        self.id = self.kirim.create_contact(
            "+6281230000001", name="Dewi", email="dewi@example.com", metadata={"city": "Medan"}
        )
        self.record = self.sync_creates(self.id)

    def clock(self) -> datetime:
        """Every look is 10 ms later."""
        self.now += timedelta(milliseconds=10)
        return self.now

    def sync_creates(self, id: str) -> str:
        held = {field.crm: value for field in FIELDS if (value := in_kirim(self.kirim)[id][field.kirim])}
        contact = self.hubspot.contacts.create({**held, EXTERNAL_ID: id}, Source("INTEGRATION", "1"))
        self.hubspot.applied("contact", "create", contact, {**held, EXTERNAL_ID: id}, tuple(held), None)
        return str(contact.id)

    def sync_writes_hubspot(self, **properties: str) -> None:
        contact = self.hubspot.contacts.find(self.record)
        assert contact is not None
        changed = self.hubspot.contacts.update(contact, properties, Source("INTEGRATION", "1"))
        self.hubspot.applied("contact", "update", contact, properties, changed, None)

    def sync_writes_kirim(self, **fields: object) -> None:
        contact = self.kirim.workspace.contacts.by_id[self.id]
        self.kirim.workspace.change_contact(contact, fields)
        self.kirim.ledger.append(Effect(self.clock(), "update", "contact", self.id, None, fields, tuple(fields)))

    def verdict(self, *, settled: bool = True, quiet_at: datetime | None = None) -> Verdict:
        return judge(self.kirim, HubSpotCrm(self.hubspot), Circumstances(None, quiet_at, settled, 0, 0.0))


@pytest.fixture
def world() -> World:
    return World()


def test_two_platforms_that_agree_are_agreed(world: World) -> None:
    verdict = world.verdict()

    assert (verdict.contacts, verdict.fields_compared, verdict.fields_agreed) == (1, len(FIELDS), len(FIELDS))
    assert (verdict.echo_writes, verdict.duplicates, verdict.crm_writes) == (0, 0, 1)
    assert verdict.agreed
    assert verdict.p50_ms is not None


def test_an_edit_that_crossed_is_measured_and_a_spelling_is_no_difference(world: World) -> None:
    world.kirim.edit_contact(world.id, email="Budi@Example.com")
    world.now += timedelta(milliseconds=480)
    world.sync_writes_hubspot(email="budi@example.com", phone="+62 812-3000-0001")

    verdict = world.verdict()

    assert verdict.fields_agreed == len(FIELDS)
    assert verdict.edits_measured == 2
    assert 480 <= (verdict.p95_ms or 0) <= 520
    assert verdict.echo_writes == 1  # the number was only respelled


def test_an_edit_that_was_lost_is_found(world: World) -> None:
    world.kirim.edit_contact(world.id, email="budi@example.com")

    verdict = world.verdict()

    assert verdict.fields_agreed == len(FIELDS) - 1
    assert not verdict.agreed
    assert "email" in verdict.findings[0]
    assert verdict.complaints() == ["1 field differs"]


def test_two_sides_that_agree_on_what_the_owner_did_not_say_do_not_agree(world: World) -> None:
    world.hubspot.edit(world.record, email="wrong@example.com")
    world.sync_writes_kirim(email="wrong@example.com")

    verdict = world.verdict()

    assert verdict.fields_agreed == len(FIELDS) - 1
    assert verdict.echo_writes == 1  # written on the side that owns it


def test_a_restored_value_is_called_for_and_counted(world: World) -> None:
    world.hubspot.edit(world.record, email="")
    world.sync_writes_hubspot(email="dewi@example.com")

    verdict = world.verdict()

    assert (verdict.restored, verdict.echo_writes, verdict.agreed) == (1, 0, True)


def test_a_write_that_changes_nothing_is_an_echo_on_either_side(world: World) -> None:
    world.sync_writes_hubspot(email="dewi@example.com")
    world.sync_writes_kirim(metadata={"city": "Medan"})
    world.sync_writes_kirim(name="Dewi")

    assert world.verdict().echo_writes == 3


def test_metadata_that_comes_along_in_a_write_is_no_echo(world: World) -> None:
    world.hubspot.edit(world.record, company="Batik")
    world.sync_writes_kirim(metadata={"city": "Medan", "company": "Batik"})

    verdict = world.verdict()

    assert (verdict.echo_writes, verdict.agreed) == (0, True)


def test_an_old_value_that_comes_back_is_an_echo(world: World) -> None:
    world.kirim.edit_contact(world.id, email="budi@example.com")
    world.sync_writes_hubspot(email="budi@example.com")
    world.sync_writes_hubspot(email="dewi@example.com")
    world.sync_writes_hubspot(email="budi@example.com")

    assert world.verdict().echo_writes == 1


def test_a_second_record_and_a_record_from_nowhere_are_duplicates(world: World) -> None:
    world.hubspot.create_contact(firstname="Made by hand")
    assert world.verdict().duplicates == 0

    contact = world.hubspot.contacts.create({"firstname": "From nowhere"}, Source("INTEGRATION", "1"))
    world.hubspot.applied("contact", "create", contact, {"firstname": "From nowhere"}, ("firstname",), None)
    verdict = world.verdict()

    assert verdict.duplicates == 1
    assert verdict.echo_writes == 1  # nobody asked for that record


def test_a_contact_without_a_record_lacks_every_field(world: World) -> None:
    world.kirim.create_contact("+6281230000009", name="Nobody told")

    verdict = world.verdict()

    assert verdict.fields_agreed == len(FIELDS)
    assert verdict.fields_compared == 2 * len(FIELDS)


def test_what_happens_after_quiet_and_no_quiet_at_all_are_complaints(world: World) -> None:
    quiet = world.clock()
    world.kirim.edit_contact(world.id, email="budi@example.com")
    world.sync_writes_hubspot(email="budi@example.com")

    verdict = world.verdict(settled=False, quiet_at=quiet)

    assert verdict.writes_after_quiet == verdict.echo_writes == 1
    assert verdict.complaints()[-1] == "the platforms did not become quiet in time"


def test_the_judges_eyes_see_what_the_product_sees() -> None:
    """Two independent notions of equal agree on the spellings that the demonstration uses."""
    for one, other in (("+62 812-3000-0001", "081230000001"), ("0812 3000 0001", "+6281230000001"), ("+1", "+2")):
        assert (plain_phone(one) == plain_phone(other)) == same(FieldType.PHONE, one, other, "ID")


def test_people_write_valid_numbers_and_never_the_same_value_twice() -> None:
    pens = Pen(7, 0), Pen(7, 1)
    values = [pen.value(field.kirim) for _ in range(200) for pen in pens for field in FIELDS]

    assert len(set(values)) == len(values)
    assert all(
        phonenumbers.is_valid_number(phonenumbers.parse(value)) for value in values if re.fullmatch(r"\+\d+", value)
    )


def test_the_same_seed_writes_the_same() -> None:
    first, second, other = Pen(1, 0), Pen(1, 0), Pen(2, 0)

    def some(pen: Pen) -> list[str]:
        return [pen.value("metadata.city") for _ in range(20)]

    assert some(first) == some(second) != some(other)


def test_a_timeline_tells_people_from_the_daemon(world: World) -> None:
    world.kirim.edit_contact(world.id, email=None)
    world.sync_writes_hubspot(email="")

    trail = Timeline.read(world.kirim, HubSpotCrm(world.hubspot)).trails[world.id, "email"]

    assert [(move.side, move.human, move.value) for move in trail.moves] == [
        (Side.KIRIM, True, "dewi@example.com"),
        (Side.CRM, False, "dewi@example.com"),
        (Side.KIRIM, True, None),
        (Side.CRM, False, None),
    ]
    assert HubSpotCrm(world.hubspot).held()[world.id][world.record]["email"] is None


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([], 0.5) is None
    assert [percentile([3, 1, 2, 4], share) for share in (0.5, 0.95, 1)] == [2, 4, 4]


def test_reading_calls_are_no_write_calls() -> None:
    calls = {"GET /x": 9, "POST /contacts/batch/read": 8, "POST /contacts/search": 7, "PATCH /x": 2, "POST /y": 1}

    assert write_calls(calls) == 3
