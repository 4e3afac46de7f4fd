"""`allkit plugins check`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from allkit.cli.judge import sample_images
from allkit.cli.train import needs_training_packages
from allkit.errors import ConfigError
from allkit.plugins import Registry, using
from allkit.testing.checks import Outcome, line, run_checks, summary

__all__ = ["run_check"]


SAMPLES = 8
"""Images of `--data` that are looked at."""


def run_check(name: str, *, expected: list[str], data: Path | None, as_json: bool) -> int:
    """Check a package, or one record; return 1 when a check fails."""
    needs_training_packages()
    reasons = {}
    for text in expected:
        check, separator, reason = text.partition("=")
        if not separator or not reason.strip():
            raise ConfigError(f"--expect {text!r} lacks its reason. Write --expect CHECK='why'.")
        reasons[check.strip()] = reason.strip()
    images = sample_images(data, SAMPLES) if data else []
    subject = None

    def told(outcome: Outcome) -> None:
        nonlocal subject
        if as_json:
            return
        if outcome.subject != subject:
            subject = outcome.subject
            sys.stdout.write(f"{subject}\n")
        sys.stdout.write(line(outcome) + "\n")
        sys.stdout.flush()

    with using(Registry(fresh=True)):
        outcomes = run_checks(name, expected_failures=reasons, images=images, told=told)
    if as_json:
        sys.stdout.write(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    else:
        sys.stdout.write(f"{summary(outcomes)}.\n")
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0
