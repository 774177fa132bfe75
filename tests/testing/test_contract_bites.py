"""The kit notices every planted mistake, and there is no check that nothing can fail."""

from __future__ import annotations

import pytest
from testing import broken_beside
from testing.broken import MISTAKES, Mistake

from crmsync.testing.contract import ConnectorContract, checks
from crmsync.testing.memory import MemoryCrm


class Contract(ConnectorContract):
    """The kit for one mistake, run check by check."""

    def __init__(self, mistake: Mistake) -> None:
        self.mistake = mistake

    def make_fake(self) -> MemoryCrm:
        """A platform with the broken connector."""
        return self.mistake.make_fake()


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_kit_notices_the_mistake(mistake: Mistake) -> None:
    """The checks that are about it fail."""
    contract = Contract(mistake)
    unnoticed = [
        name for name in mistake.bites if not any(check.run(contract) for check in checks(name) if check.name == name)
    ]

    assert mistake.bites
    assert unnoticed == []


def test_every_check_can_fail() -> None:
    """For each there is a mistake that it alone, or it among others, has to notice."""
    bitten = {name for mistake in MISTAKES for name in mistake.bites}

    assert {check.name for check in checks()} == bitten


def test_every_mistake_is_planted_once() -> None:
    """Their names say what is wrong, and are told apart by it."""
    names = [mistake.name for mistake in MISTAKES]

    assert len(names) == len(set(names))
    assert len(names) >= 12
    assert broken_beside.WalksOverOnePage.__name__ in names
