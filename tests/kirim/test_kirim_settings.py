"""What may stand under `kirim:` in a configuration, and what is refused before anything is started."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from crmsync.kirim.settings import DEFAULT_BASE_URL, KirimSettings, Paths
from crmsync.model import Rate

SECRET = "whsec_" + "s" * 32
GOOD: dict[str, Any] = {
    "api_key": "kdv_live_" + "k" * 24,
    "webhook_secrets": [SECRET],
    "phone_number_ids": ["106540352242922"],
}


def refused(**changed: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        KirimSettings.model_validate({**GOOD, **changed})
    assert SECRET not in str(caught.value)
    assert GOOD["api_key"] not in str(caught.value)
    return str(caught.value)


def test_three_keys_are_enough() -> None:
    settings = KirimSettings.model_validate(GOOD)
    assert settings.base_url == DEFAULT_BASE_URL
    assert settings.paths is Paths.PHONE
    assert settings.tolerance_seconds == 300
    assert settings.parallel == 4
    assert not settings.accept_test_mode
    assert settings.advice() == ()


def test_secrets_are_trimmed_and_kept_once() -> None:
    settings = KirimSettings.model_validate({**GOOD, "webhook_secrets": [f" {SECRET}\n", SECRET, SECRET + "2"]})
    assert [secret.get_secret_value() for secret in settings.webhook_secrets] == [SECRET, SECRET + "2"]


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ([], "at least one is needed"),
        ([""], "secret 1 is blank"),
        ([SECRET, "  \n"], "secret 2 is blank"),
        (["whsec_short"], "secret 1 is shorter than 24"),
        ([f"{SECRET}\n{SECRET}"], "secret 1 has a line break"),
        (None, "webhook_secrets"),
    ],
)
def test_a_secret_that_cannot_be_right_is_refused(secrets: Any, said: str) -> None:
    assert said in refused(webhook_secrets=secrets)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([106540352242922], "write the id in quotes"),
        (["+62851176"], "entry 1 is not Meta's id"),
        (["106540352242922", "12345"], "entry 2 is not Meta's id"),
        (["１０６５４０３５"], "entry 1 is not Meta's id"),
        (["106540352242922\n"], "entry 1 is not Meta's id"),
        (["106540352242922"] * 2, "names the same number twice"),
        ([], "at least one is needed"),
    ],
)
def test_numbers_are_quoted_ids(numbers: Any, said: str) -> None:
    assert said in refused(phone_number_ids=numbers)


def test_older_paths_need_no_numbers() -> None:
    assert (
        KirimSettings.model_validate({**GOOD, "phone_number_ids": [], "paths": "organisation"}).phone_number_ids == ()
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://api.kirimdev.com", "must be an address like"),
        ("api.kirimdev.com", "must be an address like"),
        ("https://user:word@api.kirimdev.com/v1", "neither a user name"),
        ("https://api.kirimdev.com/v1?a=b", "neither a user name"),
    ],
)
def test_an_address_is_an_address_and_nothing_more(address: str, said: str) -> None:
    assert said in refused(base_url=address)


@pytest.mark.parametrize("address", ["https://api.kirim.chat/v1/", "http://127.0.0.1:8000/v1", "http://kirim:1/v1"])
def test_where_plain_http_may_lead_is_the_configurations_business(address: str) -> None:
    assert KirimSettings.model_validate({**GOOD, "base_url": address}).base_url == address.rstrip("/")


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nbreak", "ключ"])
def test_a_key_is_one_word(key: str) -> None:
    assert "api_key" in refused(api_key=key)


@pytest.mark.parametrize(
    "changed",
    [
        {"tolerance_seconds": 29},
        {"tolerance_seconds": 601},
        {"tolerance_seconds": 0},
        {"parallel": 0},
        {"read_per_minute": 0},
        {"paths": "number"},
        {"unknown": 1},
    ],
)
def test_limits_are_kept(changed: dict[str, Any]) -> None:
    assert next(iter(changed)) in refused(**changed)


def test_what_looks_like_a_mistake_is_mentioned_without_being_shown() -> None:
    settings = KirimSettings.model_validate(
        {**GOOD, "api_key": "other_" + "k" * 24, "webhook_secrets": [SECRET, "n" * 32]}
    )
    one, two = settings.advice()
    assert "api_key" in one
    assert "secret 2" in two
    assert "n" * 8 not in two


def test_configured_limits_replace_the_documented_ones() -> None:
    documented = {"": Rate(600, 60), "read": Rate(600, 60), "write": Rate(60, 60)}
    assert KirimSettings.model_validate(GOOD).limits(documented) == documented
    slower = KirimSettings.model_validate({**GOOD, "write_per_minute": 30})
    assert slower.limits(documented) == {**documented, "write": Rate(30, 60)}
