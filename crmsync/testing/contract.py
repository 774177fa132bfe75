"""The contract kit: every promise of `crmsync.connector.Connector`, checked against a fake of the platform's wire.

    from crmsync.testing.contract import ConnectorContract

    class TestAcme(ConnectorContract):
        def make_fake(self):
            return AcmeFake()          # a crmsync.testing.fake.FakeCrm

Needs pytest and hypothesis. A check of a capability that the connector does not declare is skipped and names it
(`pytest -rs`); one that is declared has to work.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

CHECKS = [
    "base",
    "declares",
    "reads",
    "walks",
    "writes",
    "loads",
    "conversations",
    "segments",
    "timelines",
    "troubles",
    "webhooks",
]
pytest.register_assert_rewrite(*(f"crmsync.testing.checks.{name}" for name in CHECKS))

from crmsync.testing.checks.conversations import Conversations  # noqa: E402
from crmsync.testing.checks.declares import Declares  # noqa: E402
from crmsync.testing.checks.loads import Loads  # noqa: E402
from crmsync.testing.checks.reads import Follows, Reads  # noqa: E402
from crmsync.testing.checks.segments import People, Segments  # noqa: E402
from crmsync.testing.checks.timelines import Timelines  # noqa: E402
from crmsync.testing.checks.troubles import Troubles  # noqa: E402
from crmsync.testing.checks.walks import Walks  # noqa: E402
from crmsync.testing.checks.webhooks import Webhooks  # noqa: E402
from crmsync.testing.checks.writes import Batches, Writes  # noqa: E402


class ConnectorContract(
    Declares,
    Reads,
    Follows,
    Walks,
    Writes,
    Batches,
    Loads,
    Conversations,
    Segments,
    People,
    Timelines,
    Troubles,
    Webhooks,
):
    """Subclass it, name the subclass `Test…`, and provide `make_fake`."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check with its arguments, to be run without pytest's collection."""

    name: str
    arguments: Mapping[str, Any]

    def run(self, contract: ConnectorContract) -> str | None:
        """Why the check failed, None if it passed or was skipped. Each run has a platform of its own."""
        fake = contract.make_fake()
        connector = fake.connect()
        offered = {"fake": fake, "connector": connector}
        method = getattr(contract, self.name)
        wanted = method.__code__.co_varnames[1 : method.__code__.co_argcount]
        try:
            method(**{name: value for name, value in offered.items() if name in wanted}, **self.arguments)
        except pytest.skip.Exception:
            return None
        except (Exception, pytest.fail.Exception) as failure:
            return f"{type(failure).__name__}: {failure}"
        finally:
            connector.close()
            fake.close()
        return None


def checks(only: str = "") -> Iterator[Check]:
    """Every check of the kit whose name contains `only`, once for each set of arguments."""
    for name in dir(ConnectorContract):
        if not name.startswith("test_") or only not in name:
            continue
        marks = getattr(getattr(ConnectorContract, name), "pytestmark", [])
        choices = [_choices(mark) for mark in marks if mark.name == "parametrize"]
        for chosen in itertools.product(*choices):
            yield Check(name, {key: value for part in chosen for key, value in part.items()})


def _choices(mark: pytest.Mark) -> list[dict[str, Any]]:
    names, values = mark.args[0], mark.args[1]
    if isinstance(names, str):
        return [{names: value} for value in values]
    return [dict(zip(names, value, strict=True)) for value in values]
