"""A rotation of the signing secret: never without a secret that matches, whatever dies, and whenever."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.gatehouse import Gatehouse

from crmsync import crash
from crmsync.errors import ConnectorError, Retry
from crmsync.flows import journal
from crmsync.flows.journal import Phase
from crmsync.flows.rotation import PROOF, RotationRefused, Told
from crmsync.flows.selftest import self_test
from crmsync.kirim.secrets import FileSecret, read_secrets_file, write_secrets_file
from crmsync.sandbox.faults import Fault
from crmsync.store.database import Database

POINTS = [name for name in crash.POINTS if name.startswith("rotate.")]


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path) -> Iterator[Gatehouse]:
    database = Database.open(sqlite_url)
    with Gatehouse(database, tmp_path) as made:
        yield made
    database.close()


def safe(house: Gatehouse) -> bool:
    """Whether something that Kirim signs with is something that we hold."""
    (subscription,) = house.kirim.subscriptions.by_id.values()
    signing = set(subscription.active_secrets(house.clock()))
    return bool(signing & {secret.key for secret in house.held()})


def events(house: Gatehouse, count: int = 2) -> None:
    """Things happen in Kirim, and the daemon takes them in."""
    house.events(count)
    house.observe()


def run(house: Gatehouse, *, most: int = 60, keep: timedelta = timedelta(0), until: Phase | None = None) -> list[Told]:
    """Step after step while things happen, until there is nothing to do; each step in a process of its own."""
    said: list[Told] = []
    for _ in range(most):
        said.append(house.rotation(keep=keep).step())
        assert safe(house)
        events(house)
        if said[-1].done or said[-1].phase is until:
            return said
    raise AssertionError([told.text for told in said])


def texts(said: list[Told]) -> str:
    return "\n".join(told.text for told in said)


@pytest.mark.parametrize("shown", ["embedded", "beside"])
def test_a_rotation_replaces_the_secret_and_loses_nothing(house: Gatehouse, shown: str) -> None:
    house.kirim.behaviour.secrets_shown = shown
    old = house.subscribe().secrets[0]
    said = run(house)

    (new,) = read_secrets_file(house.secrets_file)
    assert house.signing() == [new.id]
    assert new.key != old.text
    assert stat.S_IMODE(house.secrets_file.stat().st_mode) == 0o600
    assert not house.rotation().journal_file.exists()
    assert len(house.kirim.acknowledged) == len(house.kirim.deliveries()) == len(house.received())
    assert f"Kirim no longer signs with {old.id}" in texts(said)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("shown", ["embedded", "nowhere"])
def test_a_rotation_killed_at_any_point_goes_on(
    house: Gatehouse, point: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.kirim.behaviour.secrets_shown = shown
    house.subscribe()
    met: list[str] = []

    def die(name: str, about: bytes = b"") -> None:
        met.append(name)
        if name == point and met.count(name) == 1:
            raise Killed

    monkeypatch.setattr(crash, "point", die)
    try:
        run(house)
    except Killed:
        assert safe(house)
        events(house)
        run(house)

    assert point in met
    secrets = read_secrets_file(house.secrets_file)
    (subscription,) = house.kirim.subscriptions.by_id.values()
    assert [secret.key for secret in secrets] == [secret.text for secret in subscription.secrets]
    assert len(secrets) == 1
    assert len(house.kirim.acknowledged) == len(house.kirim.deliveries())


def test_a_rotation_killed_at_every_point_goes_on(house: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    house.subscribe()
    met: set[str] = set()

    def die(name: str, about: bytes = b"") -> None:
        if name.startswith("rotate.") and name not in met:
            met.add(name)
            raise Killed

    monkeypatch.setattr(crash, "point", die)
    for _ in range(len(POINTS) + 1):
        try:
            run(house)
        except Killed:
            assert safe(house)
            if not house.rotation().journal_file.exists():
                break
        else:
            break

    assert met == set(POINTS)
    assert len(POINTS) == 7
    assert len(house.signing()) == len(read_secrets_file(house.secrets_file)) == 1


def test_a_lost_answer_makes_no_second_secret(house: Gatehouse) -> None:
    house.subscribe()
    house.rotation().step()
    house.kirim.faults.fail_next(1, Fault.reset(applied=True), method="POST")
    with pytest.raises(Retry):
        house.rotation().step()
    run(house, until=Phase.PROVE)

    assert len(house.signing()) == 2


def test_a_secret_whose_text_never_reached_us_is_replaced_and_deleted(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that shows the text once only, also when it repeats its answer."""
    house.subscribe()
    create, answers = house.kept.client.create_secret, []

    def once(*arguments: Any, **named: Any) -> Any:
        answers.append(create(*arguments, **named))
        return {name: value for name, value in answers[-1].items() if name != "secret" or len(answers) > 1}

    monkeypatch.setattr(house.kept.client, "create_secret", once)
    said = run(house)

    assert "did not reach us" in texts(said)
    assert len(answers) == 2
    assert house.signing() == [answers[1]["id"]]
    assert [secret.id for secret in read_secrets_file(house.secrets_file)] == [answers[1]["id"]]


def test_nothing_is_deleted_before_enough_deliveries_verified_under_the_new_secret(house: Gatehouse) -> None:
    old = house.subscribe().secrets[0].id
    for _ in range(2):
        house.rotation().step()
    events(house, PROOF - 1)
    for _ in range(3):
        told = house.rotation().step()

    assert (told.waiting, told.proven) == (True, PROOF - 1)
    assert old in house.signing()
    events(house, 1)
    assert house.rotation().step().phase is Phase.DELETE


def test_a_daemon_that_did_not_take_the_new_secret_up_keeps_the_old_one(house: Gatehouse) -> None:
    old = house.subscribe().secrets[0].id
    house.frozen = read_secrets_file(house.secrets_file)
    for _ in range(2):
        house.rotation().step()
    events(house, 20)

    assert house.rotation().step().waiting
    assert old in house.signing()


def test_our_own_deliveries_prove_nothing(house: Gatehouse) -> None:
    house.subscribe()
    for _ in range(2):
        house.rotation().step()
    for _ in range(PROOF):
        assert [one.trouble for one in self_test(house.url, house.held(), house.clock, house.new_key)] == ["", ""]
    house.observe()

    assert len(house.received()) == 2 * PROOF
    assert house.rotation().step().proven == 0


def test_the_old_secret_stays_here_for_what_is_still_on_its_way(house: Gatehouse) -> None:
    old = house.subscribe().secrets[0]
    said = run(house, keep=timedelta(hours=48))
    assert "stay in the file until 2026-11-04 09:00" in said[-1].text
    assert old.id not in house.signing()
    assert FileSecret(old.text, old.id) in read_secrets_file(house.secrets_file)

    house.clock.advance(timedelta(hours=47))
    assert house.rotation().step().done
    assert len(read_secrets_file(house.secrets_file)) == 2
    house.clock.advance(timedelta(hours=2))
    assert "complete; 1 old secret dropped" in house.rotation().step().text
    assert len(read_secrets_file(house.secrets_file)) == 1
    assert not house.rotation().journal_file.exists()


def at_delete(house: Gatehouse) -> FileSecret:
    """A rotation that would delete next; returns the new secret."""
    run(house, until=Phase.DELETE)
    return read_secrets_file(house.secrets_file)[-1]


def test_if_kirim_will_not_go_on_with_the_new_secret_the_old_ones_stay(house: Gatehouse) -> None:
    made = house.subscribe()
    old = made.secrets[0]
    new = at_delete(house)
    kept = made.secrets[:]
    for spoiled, said in (
        ([one for one in kept if one.id != new.id], "does not list"),
        ([old, type(old)(str(new.id), new.key, house.clock(), house.clock() + timedelta(hours=47))], "stops signing"),
    ):
        made.secrets[:] = spoiled
        with pytest.raises(RotationRefused, match=said):
            house.rotation().step()
        assert old in made.secrets

    made.secrets[:] = kept
    assert house.rotation().step().phase is Phase.DELETE
    assert old not in made.secrets


def test_if_the_new_secret_is_gone_from_the_file_the_old_ones_stay(house: Gatehouse) -> None:
    made = house.subscribe()
    at_delete(house)
    write_secrets_file(house.secrets_file, read_secrets_file(house.secrets_file)[:1])
    with pytest.raises(RotationRefused, match="no longer in"):
        house.rotation().step()

    assert len(made.secrets) == 2


def test_the_last_secret_is_never_deleted_though_the_list_says_so(house: Gatehouse) -> None:
    """Kirim refuses it as well, and what it refuses is said."""
    made = house.subscribe()
    new = at_delete(house)
    house.kirim.faults.fail_next(1, Fault.error(400), method="DELETE")
    with pytest.raises(RotationRefused, match="does not delete"):
        house.rotation().step()
    assert len(made.secrets) == 2
    run(house)
    assert house.signing() == [new.id]


def test_a_secret_that_somebody_else_added_meanwhile_is_left_alone(house: Gatehouse) -> None:
    made = house.subscribe()
    run(house, until=Phase.PROVE)
    other = house.kept.client.create_secret(made.id)["id"]
    said = run(house)

    assert said[-1].done
    assert len(house.signing()) == 2
    assert other in house.signing()


@pytest.mark.parametrize("limits", ["new", "previous"])
def test_no_rotation_asks_for_a_secret_that_ends(house: Gatehouse, limits: str) -> None:
    """Kirim's documents do not say which secret `expires_in_hours` limits."""
    house.kirim.behaviour.expiring_secret = limits
    made = house.subscribe()
    run(house, until=Phase.PROVE)

    assert [secret.expires_at for secret in made.secrets] == [None, None]


def test_a_subscription_whose_secret_was_lost_gets_one_that_we_hold(house: Gatehouse) -> None:
    house.kirim.subscribe(house.url)
    for _ in range(3):
        house.rotation().step()
    events(house, PROOF)
    said = run(house)

    assert said[-1].done
    assert [secret.id for secret in read_secrets_file(house.secrets_file)] == house.signing()


def test_without_a_subscription_nothing_begins(house: Gatehouse) -> None:
    with pytest.raises(RotationRefused, match="no subscription"):
        house.rotation().step()
    assert not house.rotation().journal_file.exists()


def test_a_subscription_that_was_replaced_ends_the_rotation(house: Gatehouse) -> None:
    made = house.subscribe()
    run(house, until=Phase.DELETE)
    del house.kirim.subscriptions.by_id[made.id]
    house.kirim.subscribe(house.url)
    with pytest.raises(RotationRefused, match="is gone"):
        house.rotation().step()


def test_the_journal_is_for_its_owner_alone_and_holds_no_secret(house: Gatehouse) -> None:
    house.subscribe()
    run(house, until=Phase.DELETE)
    place = house.rotation().journal_file

    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert "whsec_" not in place.read_text()
    assert journal.load(place) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"phase": "delete"}', '{"before": null, "labels": [], "lost": []}'])
def test_a_journal_that_is_none_of_ours_stops_everything(house: Gatehouse, text: str) -> None:
    house.subscribe()
    house.rotation().journal_file.write_text(text)
    with pytest.raises(journal.Unreadable, match="remove it"):
        house.rotation().step()


def test_two_rotations_at_once_are_one_too_many(house: Gatehouse) -> None:
    with journal.alone(house.secrets_file), pytest.raises(journal.Busy), journal.alone(house.secrets_file):
        pass
    with journal.alone(house.secrets_file):
        pass


def test_a_revoked_key_is_an_error_that_changes_nothing(house: Gatehouse) -> None:
    house.subscribe()
    house.kirim.key = "kdv_test_another"
    with pytest.raises(ConnectorError):
        house.rotation().step()

    assert not house.rotation().journal_file.exists()
