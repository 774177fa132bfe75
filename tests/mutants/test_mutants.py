"""Builds that are broken on purpose are caught: the only evidence that a suite without failures means anything.

The list is in `builds.py`. Each is tried in a process of its own, two at a time, with no more than the tests that have
to notice it; and the same tests pass on the build as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from mutants.builds import MUTANTS
from mutants.workshop import ACCIDENTS, ROOT, Mutant, OutOfDate, Trial, Workshop, mutated

AT_A_TIME = 2
TESTS = sorted({test for mutant in MUTANTS for test in mutant.caught_by})


@dataclass(frozen=True, slots=True)
class Trials:
    """What is being tried; only what this run of pytest was asked for."""

    pool: ThreadPoolExecutor
    workshop: Workshop
    mutants: dict[str, Future[Trial]]


@pytest.fixture(scope="session")
def trials(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    asked = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = {case.params["mutant"].name for case in asked if case is not None and "mutant" in case.params}
    workshop = Workshop(tmp_path_factory.mktemp("mutants"))
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        running = {mutant.name: pool.submit(workshop.try_mutant, mutant) for mutant in MUTANTS if mutant.name in wanted}
        yield Trials(pool, workshop, running)
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_broken_build_is_caught(
    trials: Trials, mutant: Mutant, record_property: Callable[[str, object], None]
) -> None:
    """By every test that is named, and because of the invariant: a build that does not even run proves nothing."""
    try:
        trial = trials.mutants[mutant.name].result()
    except OutOfDate as error:
        pytest.fail(str(error), pytrace=False)

    missed = [test for test in mutant.caught_by if trial.outcomes[test] != "failed"]
    assert not missed, f"{mutant.name} ({mutant.breaks}) survives {missed}:\n{trial.output[-3000:]}"
    assert not ACCIDENTS & set(trial.errors.values()), f"the build does not run:\n{trial.output[-3000:]}"
    caught = ", ".join(test.removeprefix("tests/") for test in mutant.caught_by)
    record_property("caught", f"{mutant.breaks:<3} {mutant.name}: {caught} ({trial.seconds:.1f} s)")


def test_the_same_tests_pass_on_the_build_as_it_is(trials: Trials) -> None:
    trial = trials.pool.submit(trials.workshop.try_as_it_is, TESTS).result()

    assert trial.with_outcome("passed") == TESTS, trial.output[-3000:]


def test_every_broken_build_breaks_another_thing() -> None:
    assert len(MUTANTS) >= 14
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
    assert all(mutant.caught_by for mutant in MUTANTS)


def test_a_mutant_whose_text_is_gone_says_so() -> None:
    mutant = Mutant("m", "D1", "crmsync/errors.py", "no such text", "", ("t",))
    source = (ROOT / mutant.file).read_text(encoding="utf-8")

    with pytest.raises(OutOfDate, match="the mutant no longer applies: update it"):
        mutated(mutant, source)
    with pytest.raises(OutOfDate, match="2 times"):
        mutated(mutant, "no such text, no such text")
