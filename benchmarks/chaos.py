"""What is promised while the daemon is killed again and again.

    python benchmarks/chaos.py --events 1000000 --kills 2000

The same world, killer and judge as in tests/chaos, with a PostgreSQL database if its URL is given. Half of the deaths
are at named points, half at random. The exit code says whether all is well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from sqlalchemy import make_url

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from harness import figure, quantile
from support.chaos.killer import FIRST, Figures, Killer, named_points
from support.chaos.world import World


def spread(points: Sequence[str], kills: int) -> list[str]:
    """Named points for half of the deaths, or each once if that is more; those of the first start once."""
    first = [point for point in points if point in FIRST]
    others = [point for point in points if point not in FIRST]
    turns = max(len(others), kills // 2 - len(first))
    return (first + list(islice(cycle(others), turns if others else 0)))[:kills]


def show(world: World, figures: Figures) -> None:
    """Everything that was found."""
    promised, promises, findings = world.promises.events, world.promises, figures.findings
    print("\nends of the daemon")
    for point, count in sorted(figures.kills.items()):
        figure(f"  {point}", f"{count:,}")
    print("\nanswers to the sender")
    for word, count in sorted(promises.answers.items(), key=lambda one: str(one[0])):
        figure(f"  {word}", f"{count:,}", f"slowest {promises.slowest[word]:.2f} s")
    print()
    figure("events acknowledged", f"{promised:,}")
    figure("events a second, deaths included", f"{promised / figures.seconds:,.0f}", f"{figures.seconds:,.0f} s in all")
    figure("deaths", f"{sum(figures.kills.values()):,}", f"{len(figures.kills)} places")
    figure("writes to the CRM for each event", f"{len(world.tally) / promised:.2f}", f"{len(world.tally):,} in all")
    figure("writes that changed nothing", f"{world.tally.repeated:,}", f"{world.tally.repeated / len(world.tally):.2%}")
    figure("start to listening, p50 / p95", pair(figures.starts))
    figure("death to the next 2xx, p50 / p95", pair(promises.recovered))
    print()
    figure("lost", f"{len(findings.lost):,}", "0", not findings.lost)
    figure("duplicate effects", f"{len(findings.duplicates):,}", "0", not findings.duplicates)
    figure("otherwise wrong", f"{len(findings.wrong):,}", "0", not findings.wrong)
    figure("named points not met", f"{len(figures.unmet):,}", "0", not figures.unmet)
    figure("ends that nobody ordered", f"{len(figures.strange):,}", "0", not figures.strange)
    if not findings.lost:
        figure("share of lost events, 95 % confidence", f"< {3 / promised:.1e}", "rule of three")
    for line in (*figures.unmet, *figures.strange, str(findings)):
        if line:
            print(line)


def pair(seconds: Sequence[float]) -> str:
    """Median and 95th percentile."""
    return f"{quantile(seconds, 0.5):.2f} / {quantile(seconds, 0.95):.2f} s" if seconds else "–"


def main() -> None:
    """Runs it once."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="crmsync-chaos-") as name:
        folder = Path(name)
        database = options.database_url or f"sqlite:///{folder}/store.db"
        points = options.points
        if points is None:
            points = spread(named_points(make_url(database).get_backend_name()), options.kills)
        with World(folder, database, contacts=options.contacts, rate=options.rate, seed=options.seed) as world:
            killer = Killer(world, events=options.events, kills=options.kills, points=points, seed=options.seed)
            try:
                figures = killer.run(tell=lambda done: progress(world, done, options.kills))
            except BaseException:
                print(world.log)
                raise
            show(world, figures)
            if not figures.clean:
                print(world.log)
                sys.exit(1)


def progress(world: World, done: int, kills: int) -> None:
    """A line now and then."""
    if done % max(1, kills // 20) == 0:
        print(f"{done:>7,} deaths  {world.promises.events:>10,} events acknowledged", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=2_000)
    parser.add_argument("--contacts", type=int, default=2_000, help="that the events are about")
    parser.add_argument("--rate", type=float, default=1_000.0, help="events a second, while the daemon is up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--points", nargs="*", help="only these named points; none for deaths at random only")
    parser.add_argument("--database-url", help="postgresql://… of an empty database; a new SQLite file if not given")
    return parser.parse_args()


if __name__ == "__main__":
    main()
