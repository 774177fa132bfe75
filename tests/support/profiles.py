"""Hypothesis profiles: the same examples on every run, and no deadlines on machines that are shared.

Import this module in a test file that uses Hypothesis; `HYPOTHESIS_PROFILE=nightly` looks further, at random.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, suppress_health_check=SLOW)
settings.register_profile("nightly", deadline=None, print_blob=True, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

FURTHER = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 1
"""How many times as many examples a long search tries."""
