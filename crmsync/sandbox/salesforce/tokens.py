"""The token endpoint of an emulated org: JWT bearer and client credentials, and sessions that end."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import parse_qs

import orjson

from crmsync.sandbox.emulator import Call, Reply

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCES = (".salesforce.com",)


class Tokens:
    """`user` is whose sessions they are. `public_key` (PEM) proves assertions; without it nobody looks at their
    signature."""

    def __init__(
        self, key: str, secret: str, public_key: str | None, user: str, now: Callable[[], datetime], random: Random
    ) -> None:
        self.key = key
        self.secret = secret
        self.public_key = public_key
        self.granted = 0
        self._identity = f"/id/00D5g0000000001EAA/{user}"
        self._now = now
        self._random = random
        self._open: dict[str, datetime | None] = {}

    def grant(self, call: Call, instance: str, seconds: float | None) -> Reply:
        """POST /services/oauth2/token"""
        form = {name: values[0] for name, values in parse_qs(call.body.decode("latin-1")).items()}
        match form.get("grant_type"):
            case "client_credentials":
                trouble = self._credentials(call.headers.get("authorization", ""))
            case _ if form.get("grant_type") == JWT_BEARER:
                trouble = self._assertion(form.get("assertion", ""))
            case _:
                trouble = "unsupported_grant_type"
        if trouble:
            return Reply(400, {"error": trouble, "error_description": "authentication failure"})
        self.granted += 1
        token = f"00D5g!{self._random.getrandbits(128):032x}"
        self._open[token] = None if seconds is None else self._now() + timedelta(seconds=seconds)
        told = {"access_token": token, "instance_url": instance, "id": instance + self._identity}
        return Reply(200, {**told, "token_type": "Bearer", "scope": "api"})

    def opens(self, header: str | None) -> bool:
        """Whether a request carries a session that lasts."""
        token = (header or "").removeprefix("Bearer ")
        if token not in self._open:
            return False
        until = self._open[token]
        return until is None or self._now() < until

    def revoke(self) -> None:
        """Ends every session."""
        self._open.clear()

    def _credentials(self, header: str) -> str:
        expected = base64.b64encode(f"{self.key}:{self.secret}".encode()).decode()
        return "" if header == f"Basic {expected}" else "invalid_client"

    def _assertion(self, assertion: str) -> str:
        try:
            claims = self._claims(assertion)
            fits = claims["iss"] == self.key and "@" in claims["sub"] and claims["aud"].endswith(_AUDIENCES)
            lasts = self._now().timestamp() - 60 < float(claims["exp"]) <= self._now().timestamp() + 300
        except (KeyError, ValueError, TypeError, AttributeError, binascii.Error):
            return "invalid_grant"
        return "" if fits and lasts else "invalid_grant"

    def _claims(self, assertion: str) -> Any:
        head, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in assertion.split("."))
        if orjson.loads(head)["alg"] != "RS256":
            raise ValueError("not signed with RS256")
        if self.public_key is not None:
            _prove(self.public_key, assertion.rpartition(".")[0].encode(), signature)
        return orjson.loads(claims)


def _prove(public_key: str, signed: bytes, signature: bytes) -> None:
    """Raises ValueError unless the key's owner signed this."""
    from cryptography.exceptions import InvalidSignature  # comes with the extra that talks to Salesforce
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(public_key.encode())
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA key")
    try:
        key.verify(signature, signed, PKCS1v15(), SHA256())
    except InvalidSignature as error:
        raise ValueError("the signature is wrong") from error
