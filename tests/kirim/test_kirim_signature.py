"""The rows of the bad-input catalogue that concern the signature header, each as a fact."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmsync.errors import BadSignature, Doubt
from crmsync.kirim.signature import Secret, looks_like_kirim, sign, verify

KEY = "whsec_" + "k" * 32
OTHER = "whsec_" + "o" * 32
BODY = '{"id":"evt_1","name":"Zoë"}'.encode()
T = 1_716_480_000
NOW = datetime.fromtimestamp(T, UTC)


def mac(t: bytes | int = T, body: bytes = BODY, key: str = KEY) -> str:
    stamp = str(t).encode() if isinstance(t, int) else t
    return hmac.new(key.encode(), stamp + b"." + body, hashlib.sha256).hexdigest()


GOOD = mac()


def check(*headers: bytes | str, body: bytes = BODY, keys: tuple[str, ...] = (KEY,), at: datetime = NOW) -> str:
    values = [header.encode() if isinstance(header, str) else header for header in headers]
    return verify(values, body, [Secret(key, key.encode()) for key in keys], at)


def doubt(*headers: bytes | str, **more: object) -> Doubt:
    with pytest.raises(BadSignature) as caught:
        check(*headers, **more)  # type: ignore[arg-type]
    return caught.value.doubt


ACCEPTED = {
    "as documented": f"t={T},v1={GOOD}",
    "H7 upper-case hex": f"t={T},v1={GOOD.upper()}",
    "spaces after commas": f"t={T}, v1={GOOD}",
    "tabs and spaces around": f" t={T} ,\tv1={GOOD} ",
    "v1 before t": f"v1={GOOD},t={T}",
    "H9 63 digits beside a good one": f"t={T},v1={GOOD[:-1]},v1={GOOD}",
    "H9 65 digits beside a good one": f"t={T},v1={GOOD}0,v1={GOOD}",
    "H9 no digits beside a good one": f"t={T},v1=,v1={GOOD}",
    "H9 no hex beside a good one": f"t={T},v1={'g' * 64},v1={GOOD}",
    "H9 bytes outside ASCII beside a good one": b"t=%d,v1=\xff\xfe%b,v1=%b" % (T, b"0" * 62, GOOD.encode()),
    "H10 16 candidates, the last is right": f"t={T}," + "v1=" + f",v1={'0' * 64}" * 14 + f",v1={GOOD}",
    "H10 the first is right": f"t={T},v1={GOOD}" + f",v1={'0' * 64}" * 15,
    "other schemes beside v1": f"t={T},v0=00,v2=11,extra=yes,v1={GOOD}",
    "a trailing comma": f"t={T},v1={GOOD},",
}

MALFORMED = {
    "H3 empty": "",
    "H3 empty parts": "t=,v1=",
    "H4 v1 alone": f"v1={GOOD}",
    "H4 t alone": f"t={T}",
    "H4 only v0": f"t={T},v0={GOOD}",
    "H4 only v2": f"t={T},v2={GOOD}",
    "upper-case names": f"T={T},V1={GOOD}",
    "H5 two times": f"t={T},t={T},v1={GOOD}",
    "H5 a second, empty time": f"t={T},t=,v1={GOOD}",
    "H6 full-width digits": f"t=１７１６４８００００,v1={GOOD}",
    "H6 underscores": f"t=1_716_480_000,v1={GOOD}",
    "H6 a plus sign": f"t=+1716480000,v1={GOOD}",
    "H6 a leading space": f"t= 1716480000,v1={GOOD}",
    "H6 nan": f"t=nan,v1={GOOD}",
    "H6 negative": f"t=-1716480000,v1={GOOD}",
    "H6 a fraction": f"t=1716480000.5,v1={GOOD}",
    "H6 5000 digits": f"t={'1' * 5000},v1={GOOD}",
    "H6 a trailing newline": f"t={T}\n,v1={GOOD}",
    "H6 eight digits": f"t=17164800,v1={GOOD}",
    "H6 twelve digits": f"t=171648000000,v1={GOOD}",
    "H8 spaces in the hex": f"t={T},v1={GOOD[:32]} {GOOD[32:]}",
    "H8 a space after the equals sign": f"t={T},v1= {GOOD}",
    "H8 spaces in one of two": f"t={T},v1={GOOD[:32]} {GOOD[32:]},v1={GOOD}",
    "H8 a trailing newline in the hex": f"t={T},v1={GOOD}\n",
    "H9 nothing but unusable candidates": f"t={T},v1={GOOD[:-1]},v1=zz",
    "H11 17 candidates": f"t={T}" + f",v1={'0' * 64}" * 16 + f",v1={GOOD}",
    "H11 10 000 candidates": f"t={T}" + f",v1={GOOD}" * 10_000,
    "a part without an equals sign": f"t={T},v1,v1={GOOD}",
}


@pytest.mark.parametrize("header", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_right_signature_is_accepted(header: bytes | str) -> None:
    assert check(header) == KEY


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_header_that_is_not_strictly_right_is_malformed(header: str) -> None:
    assert doubt(header) is Doubt.MALFORMED


def test_no_header_is_missing() -> None:
    assert doubt() is Doubt.MISSING


def test_two_headers_count_as_one_joined_with_a_comma() -> None:
    assert check(f"t={T}", f"v1={GOOD}") == KEY
    assert check(f"t={T},v1={'0' * 64}", f"v1={GOOD}") == KEY
    assert doubt(f"t={T},v1={GOOD}", f"t={T},v1={GOOD}") is Doubt.MALFORMED


@pytest.mark.parametrize("seconds", [0, 299, 300, -299, -300])
def test_within_the_tolerance_both_ways_is_fresh(seconds: int) -> None:
    assert check(f"t={T},v1={GOOD}", at=NOW + timedelta(seconds=seconds)) == KEY


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(301, Doubt.STALE), (7200, Doubt.STALE), (-301, Doubt.FUTURE), (-600, Doubt.FUTURE)],
)
def test_outside_the_tolerance_is_authentic_but_not_fresh(seconds: int, expected: Doubt) -> None:
    with pytest.raises(BadSignature) as caught:
        check(f"t={T},v1={GOOD}", at=NOW + timedelta(seconds=seconds))
    assert caught.value.doubt is expected
    assert caught.value.authentic


def test_a_forged_old_signature_is_a_mismatch_and_not_stale() -> None:
    assert doubt(f"t={T},v1={'0' * 64}", at=NOW + timedelta(days=1)) is Doubt.MISMATCH


def test_the_time_is_part_of_what_is_signed() -> None:
    assert doubt(f"t={T + 1},v1={GOOD}") is Doubt.MISMATCH


def test_the_time_is_signed_exactly_as_received() -> None:
    stamp = b"01716480000"
    assert check(b"t=" + stamp + b",v1=" + mac(stamp).encode()) == KEY
    assert doubt(b"t=" + stamp + b",v1=" + GOOD.encode()) is Doubt.MISMATCH


def test_every_byte_of_the_body_counts() -> None:
    for changed in (BODY + b"\n", BODY[:-1], b"\xef\xbb\xbf" + BODY, b""):
        assert doubt(f"t={T},v1={GOOD}", body=changed) is Doubt.MISMATCH


def test_any_bytes_can_be_a_body() -> None:
    body = bytes(range(256))
    assert check(sign(KEY, body, T), body=body) == KEY


@pytest.mark.parametrize("keys", [(KEY, OTHER), (OTHER, KEY)])
def test_during_a_rotation_either_secret_is_enough_and_the_one_that_matched_is_named(
    keys: tuple[str, str],
) -> None:
    assert check(f"t={T},v1={GOOD}", keys=keys) == KEY
    assert check(f"t={T},v1={mac(key=OTHER)}", keys=keys) == OTHER
    assert check(f"t={T},v1={'0' * 64},v1={mac(key=OTHER)}", keys=keys) == OTHER


def test_another_tenants_secret_does_not_count() -> None:
    assert doubt(f"t={T},v1={mac(key=OTHER)}") is Doubt.MISMATCH


def test_without_secrets_nothing_is_believed() -> None:
    assert doubt(f"t={T},v1={GOOD}", keys=()) is Doubt.MISMATCH
    assert doubt(f"t={T},v1={mac(key='')}", keys=()) is Doubt.MISMATCH


def test_an_empty_secret_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="empty"):
        Secret("x", b"")
    with pytest.raises(ValueError, match="empty"):
        Secret.of(" \n")


def test_the_prefix_belongs_to_the_key() -> None:
    bare = KEY.removeprefix("whsec_")
    assert doubt(f"t={T},v1={mac(key=bare)}") is Doubt.MISMATCH


def test_a_secret_is_labelled_without_being_shown() -> None:
    secret = Secret.of(f"  {KEY}\n")
    assert secret.key == KEY.encode()
    assert secret.label == Secret.of(KEY).label != Secret.of(OTHER).label
    assert "kkkk" not in repr(secret)


def test_sign_makes_what_verify_accepts() -> None:
    assert check(sign(KEY, BODY, T)) == KEY


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"x-kirim-event", b"contact.created")], True),
        ([(b"X-Kirim-Delivery-Id", b"wbd_1")], True),
        ([(b"user-agent", b"Kirim-Webhook/1.0")], True),
        ([(b"user-agent", b"curl/8"), (b"x-signature", b"1")], False),
        ([(b"user-agent", b"not Kirim-Webhook/1.0")], False),
        ([], False),
    ],
)
def test_what_looks_like_kirim(headers: list[tuple[bytes, bytes]], expected: bool) -> None:
    assert looks_like_kirim(headers) is expected


UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

pieces = st.sampled_from(
    [
        b"t=",
        b"v1=",
        b"v0=",
        b"v2=",
        b",",
        b" ",
        b"=",
        b"\n",
        b"\x00",
        b"1716480000",
        b"0" * 64,
        b"a" * 64,
        b"\xff",
    ]
)
headers_like_ours = st.lists(st.one_of(pieces, st.binary(max_size=6)), max_size=12).map(b"".join)


@UNHURRIED
@given(st.lists(st.one_of(headers_like_ours, st.binary(max_size=200)), max_size=3), st.binary(max_size=64))
def test_nothing_is_accepted_without_the_right_mac(values: list[bytes], body: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(values, body, [Secret.of(KEY), Secret.of(OTHER)], NOW)


@UNHURRIED
@given(st.integers(0, 63), st.sampled_from("0123456789abcdef"))
def test_one_wrong_digit_is_enough(place: int, digit: str) -> None:
    changed = GOOD[:place] + digit + GOOD[place + 1 :]
    if changed == GOOD:
        assert check(f"t={T},v1={changed}") == KEY
    else:
        assert doubt(f"t={T},v1={changed}") is Doubt.MISMATCH


@UNHURRIED
@given(st.binary(max_size=200), st.integers(100_000_000, 99_999_999_999))
def test_whatever_is_signed_verifies_at_its_own_time(body: bytes, t: int) -> None:
    at = datetime.fromtimestamp(t, UTC)
    assert check(sign(KEY, body, t), body=body, at=at) == KEY
