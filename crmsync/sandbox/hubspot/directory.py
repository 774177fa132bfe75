"""What an emulated HubSpot account has besides records: the pipelines of tickets, owners, and access tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.hubspot.objects import BY_NAME, TICKETS
from crmsync.sandbox.hubspot.records import Problem, iso

LARGEST_PAGE = 500
STAGES = (("1", "New", True), ("2", "Waiting on contact", True), ("3", "Waiting on us", True), ("4", "Closed", False))


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a pipeline; `is_open` says whether tickets in it are still worked on."""

    id: str
    label: str
    is_open: bool = True


class Pipelines:
    """The pipelines of tickets by id, the default one first."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._made = iso(now())
        self._lines = {"0": ("Support Pipeline", tuple(Stage(*stage) for stage in STAGES))}

    def define(self, id: str, label: str, *stages: Stage) -> None:
        """An administrator makes a pipeline, or changes one."""
        self._lines[id] = (label, stages)

    def judge(self, held: Mapping[str, str], written: Mapping[str, str]) -> list[tuple[str, str, str]]:
        """Why a ticket cannot be in the stage that is written: (property, code, message)."""
        line = self._lines.get(written.get("hs_pipeline") or held.get("hs_pipeline") or "0")
        if line is None:
            return [("hs_pipeline", "INVALID_OPTION", "This pipeline does not exist")]
        stage = written.get("hs_pipeline_stage")
        if stage and stage not in {each.id for each in line[1]}:
            return [("hs_pipeline_stage", "INVALID_OPTION", f"{stage} is no stage of the pipeline")]
        return []

    def list_all(self, call: Call) -> Reply:
        """GET /crm/v3/pipelines/{object}"""
        if BY_NAME.get(call.params["object"]) is not TICKETS:
            return Reply(200, {"results": []})
        return Reply(200, {"results": [self._shown(place, *line) for place, line in enumerate(self._lines.items())]})

    def _shown(self, place: int, id: str, line: tuple[str, tuple[Stage, ...]]) -> dict[str, Any]:
        common = {"createdAt": self._made, "updatedAt": self._made, "archived": False}
        label, stages = line
        shown = [
            {
                "id": stage.id,
                "label": stage.label,
                "displayOrder": order,
                "metadata": {"ticketState": "OPEN" if stage.is_open else "CLOSED", "isClosed": str(not stage.is_open)},
                **common,
            }
            for order, stage in enumerate(stages)
        ]
        return {"id": id, "label": label, "displayOrder": place, "stages": shown, **common}


class Owners:
    """The users that records can belong to, by id. Those who left are archived."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._owners: dict[str, dict[str, Any]] = {}
        self._ids = itertools.count(70_001)

    def add(self, email: str, first: str = "", last: str = "", *, archived: bool = False) -> str:
        """A user joins the account; returns the owner's id."""
        id, made = str(next(self._ids)), iso(self._now())
        self._owners[id] = {
            "id": id,
            "email": email,
            "type": "PERSON",
            "firstName": first,
            "lastName": last,
            "userIdIncludingInactive": int(id) + 900_000,
            **({} if archived else {"userId": int(id) + 900_000}),
            "createdAt": made,
            "updatedAt": made,
            "archived": archived,
        }
        return id

    def archive(self, id: str) -> None:
        """A user leaves."""
        self._owners[id] = {name: value for name, value in self._owners[id].items() if name != "userId"}
        self._owners[id]["archived"] = True

    def judge(self, held: Mapping[str, str], written: Mapping[str, str]) -> list[tuple[str, str, str]]:
        """Why a record cannot belong to the owner that is written."""
        owner = written.get("hubspot_owner_id")
        if not owner or owner in self._owners:
            return []
        return [("hubspot_owner_id", "INVALID_OWNER_ID", f"Owner {owner} does not exist")]

    def list_page(self, call: Call) -> Reply:
        """GET /crm/v3/owners/"""
        limit, after = int(call.param("limit", "100")), int(call.param("after", "0"))
        if not 0 < limit <= LARGEST_PAGE:
            raise Problem(400, "VALIDATION_ERROR", "limit is invalid")
        archived, email = call.param("archived").lower() == "true", call.param("email")
        found = [
            owner
            for id, owner in sorted(self._owners.items())
            if owner["archived"] == archived and int(id) >= after and email in ("", owner["email"])
        ]
        body: dict[str, Any] = {"results": found[:limit]}
        return Reply(200, body if len(found) <= limit else {**body, "paging": {"next": {"after": found[limit]["id"]}}})


class Tokens:
    """The tokens that open the account: the one that stands, and those that OAuth gave out for half an hour."""

    def __init__(self, standing: str, now: Callable[[], datetime]) -> None:
        self.standing: str | None = standing
        self.life = timedelta(minutes=30)
        self._now = now
        self._grants: dict[str, tuple[str, str]] = {}
        self._given: dict[str, datetime] = {}
        self._numbers = itertools.count(1)

    def grant(self, client_id: str, client_secret: str, refresh_token: str) -> None:
        """An administrator lets an app in."""
        self._grants[refresh_token] = (client_id, client_secret)

    def revoke(self) -> None:
        """Every access token that was given out ends at once. The grants stay."""
        self._given.clear()

    def opens(self, authorization: str | None) -> bool:
        """Whether a header lets somebody in."""
        token = (authorization or "").removeprefix("Bearer ")
        until = self._given.get(token)
        return bool(token) and (token == self.standing or (until is not None and self._now() < until))

    def exchange(self, call: Call) -> Reply:
        """POST /oauth/v3/token, with a form."""
        form = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
        client = (form.get("client_id", ""), form.get("client_secret", ""))
        if "application/x-www-form-urlencoded" not in call.headers.get("content-type", "") or call.query:
            raise Problem(400, "VALIDATION_ERROR", "The parameters belong into a form")
        if form.get("grant_type") != "refresh_token" or self._grants.get(form.get("refresh_token", "")) != client:
            raise Problem(400, "BAD_REFRESH_TOKEN", "missing or unknown refresh token")
        token = f"oauth-{next(self._numbers)}-sandbox"
        self._given[token] = self._now() + self.life
        return Reply(
            200,
            {
                "token_type": "bearer",
                "access_token": token,
                "refresh_token": form["refresh_token"],
                "expires_in": int(self.life.total_seconds()),
            },
        )
