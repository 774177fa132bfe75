"""With `-v`: which test caught which broken build, and how long that took."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    passed = terminalreporter.stats.get("passed", [])
    caught = [text for report in passed for name, text in report.user_properties if name == "caught"]
    if config.option.verbose >= 0 and caught:
        terminalreporter.section("broken builds, and what caught them")
        for line in sorted(caught):
            terminalreporter.write_line(line)
