"""The promise itself: whatever was answered with 2xx is in the CRM, once, however often the daemon is killed."""

from __future__ import annotations

from pathlib import Path

from support.chaos.killer import ELSEWHERE, FIRST, Killer, named_points
from support.chaos.world import World

from crmsync import crash

EVENTS = 20_000
KILLS, AT_RANDOM = 50, 8
"""How many there are at least, and how many of them are at random whatever the number of named points."""
CONTACTS = 1_000


def test_nothing_that_was_acknowledged_is_lost_or_done_twice(empty_database_url: str, tmp_path: Path) -> None:
    """Fifty deaths in twenty thousand events: one at each named point, and the others at random."""
    points = named_points(empty_database_url.partition(":")[0])
    kills = max(KILLS, len(points) + AT_RANDOM)
    (tmp_path / "world").mkdir()
    with World(tmp_path / "world", empty_database_url, contacts=CONTACTS) as world:
        figures = Killer(world, events=EVENTS, kills=kills, points=points).run()

        assert figures.clean, f"{figures}\n{world.log}"
        assert world.promises.events >= EVENTS
        assert sum(figures.kills.values()) == kills
        assert set(points) <= set(figures.kills)


def test_every_point_at_which_a_daemon_can_die_is_met() -> None:
    met = {*named_points("sqlite"), *named_points("postgresql")}

    assert set(FIRST) <= met
    assert [point for point in crash.POINTS if point not in met and not point.startswith(tuple(ELSEWHERE))] == []
