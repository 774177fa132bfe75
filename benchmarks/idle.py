"""What a daemon costs that has nothing to do: `python benchmarks/idle.py`.

One tenant, contacts that agree, HubSpot asked for changes every 30 seconds as by default. It begins when HubSpot was
asked once after the contacts were linked: until then there is something to do.
"""

from __future__ import annotations

import argparse
import time

from harness import Usage, figure, linked, settle, staged, wait_for

from crmsync.sandbox.stage import Setting

SEARCH = "POST /crm/v3/objects/contacts/search"


def main() -> None:
    """Runs it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--contacts", type=int, default=200)
    options = parser.parse_args()
    with staged(Setting(poll_seconds=30)) as stage:
        linked(stage, options.contacts, 60)
        asked = stage.hubspot.calls[SEARCH]
        wait_for(lambda: stage.hubspot.calls[SEARCH] > asked, 60, "HubSpot is asked for changes")
        settle(stage, 60)
        before = Usage.of(stage.pid)
        time.sleep(options.seconds)
        after = Usage.of(stage.pid)
    share, mebibytes = after.core_share(before), after.rss_bytes / 2**20
    figure("memory (RSS)", f"{mebibytes:,.1f} MiB", "< 150 MiB", mebibytes < 150)
    figure("share of a core", f"{share:.2%}", "< 1 %", share < 0.01)


if __name__ == "__main__":
    main()
