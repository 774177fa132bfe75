"""Hunts the parsers that strangers can reach, guided by coverage: `scripts/fuzz [target] [seconds]`.

Needs atheris, which `scripts/fuzz` installs aside. What is found is written to .fuzz/ as a file, and can be given
as the only argument of another run. The same promises are held by hypothesis in tests/web/test_fuzz.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
with atheris.instrument_imports(include=["crmsync.kirim", "crmsync.strict_json", "connectors.hubspot.webhooks"]):
    from support import prey


def main() -> None:
    """Runs one target until something is found or the time is up."""
    name = sys.argv[1] if len(sys.argv) > 1 else "header"
    if name not in prey.TARGETS:
        sys.exit(f"no such target; there are {', '.join(prey.TARGETS)}")
    given = sys.argv[2] if len(sys.argv) > 2 else "60"
    corpus = ROOT / ".fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(prey.SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    what = [f"-max_total_time={given}", str(corpus)] if given.isdecimal() else [given]
    options = ["-max_len=4096", "-print_final_stats=1", f"-artifact_prefix={corpus.parent}/{name}-"]
    atheris.Setup([sys.argv[0], *options, *what], prey.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
