"""An app that goes by OAuth: its tokens are renewed in time, once for all threads, and once more when refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from support.hubspot_account import connect, prepared_account

from connectors.hubspot import HubSpot
from crmsync.errors import Retry, Suspend
from crmsync.model import Kind
from crmsync.sandbox.emulator import Call
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.hubspot import HubSpotEmulator

TOKENS = "POST /oauth/v3/token"
APP = {"client_id": "0a1b-2c", "client_secret": "app-secret", "refresh_token": "na1-refresh"}


class Clock:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> Iterator[HubSpotEmulator]:
    with prepared_account(clock=clock, token="") as emulator:
        emulator.tokens.grant(APP["client_id"], APP["client_secret"], APP["refresh_token"])
        yield emulator


@pytest.fixture
def hubspot(account: HubSpotEmulator, clock: Clock) -> Iterator[HubSpot]:
    connector = connect(account, clock=clock, **APP)
    yield connector
    connector.close()


def test_a_token_serves_until_shortly_before_its_end(account: HubSpotEmulator, hubspot: HubSpot, clock: Clock) -> None:
    hubspot.count(Kind.CONTACT)
    clock.at += timedelta(minutes=28)
    hubspot.count(Kind.CONTACT)
    assert account.calls[TOKENS] == 1

    clock.at += timedelta(minutes=1, seconds=30)
    hubspot.count(Kind.CONTACT)
    assert account.calls[TOKENS] == 2


def test_the_secret_goes_in_a_form_and_nowhere_else(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    calls: list[Call] = []
    account.on_exchange.append(lambda exchange: calls.append(exchange.call))
    hubspot.count(Kind.CONTACT)

    assert (calls[0].path, calls[0].query) == ("/oauth/v3/token", {})
    assert b"client_secret=app-secret" in calls[0].body
    assert "authorization" not in calls[0].headers


def test_a_token_that_is_refused_is_renewed_and_the_request_sent_once_more(
    account: HubSpotEmulator, hubspot: HubSpot
) -> None:
    hubspot.count(Kind.CONTACT)
    account.tokens.revoke()

    assert hubspot.count(Kind.CONTACT) == 0
    assert account.calls[TOKENS] == 2


def test_an_app_that_is_refused_even_so_is_suspended(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    hubspot.count(Kind.CONTACT)
    account.faults.fail_next(1, Fault.error(401))
    account.faults.fail_next(1, Fault.slow(0))
    account.faults.fail_next(1, Fault.error(401))

    with pytest.raises(Suspend):
        hubspot.count(Kind.CONTACT)
    assert account.calls["POST /crm/v3/objects/contacts/search"] == 3


def test_a_refresh_token_that_is_refused_suspends_and_is_not_told(account: HubSpotEmulator, clock: Clock) -> None:
    hubspot = connect(account, clock=clock, **{**APP, "refresh_token": "na1-revoked"})
    with pytest.raises(Suspend, match="BAD_REFRESH_TOKEN") as told:
        hubspot.count(Kind.CONTACT)
    hubspot.close()

    assert not any(secret in str(told.value) for secret in ("na1-revoked", "app-secret"))


@pytest.mark.parametrize("fault", [Fault.error(500), Fault.error(429), Fault.reset(applied=True)])
def test_trouble_with_the_token_is_passing_and_nothing_was_sent(
    account: HubSpotEmulator, hubspot: HubSpot, fault: Fault
) -> None:
    account.faults.fail_next(1, fault)

    with pytest.raises(Retry) as trouble:
        hubspot.count(Kind.CONTACT)
    assert not trouble.value.ambiguous
    assert hubspot.count(Kind.CONTACT) == 0


@pytest.mark.parametrize("answer", [{}, {"access_token": ""}, {"access_token": "two words"}, {"access_token": 7}])
def test_an_answer_without_a_token_is_none(account: HubSpotEmulator, hubspot: HubSpot, answer: dict[str, Any]) -> None:
    account.faults.fail_next(1, Fault.error(200, body=answer))

    with pytest.raises(Retry):
        hubspot.count(Kind.CONTACT)


def test_threads_that_start_together_share_one_token(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    ready = threading.Barrier(8)

    def count() -> None:
        ready.wait()
        hubspot.count(Kind.CONTACT)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert account.calls[TOKENS] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"client_id": "x"},
        {"client_id": "x", "client_secret": "y"},
        {"access_token": "t", "client_id": "x"},
        {"access_token": "t", **APP},
    ],
)
def test_one_credential_is_given_and_no_more(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="either access_token, or client_id"):
        HubSpot.Settings.model_validate(wrong)
