"""The checks of the settings of a record, of whatever kind."""

from __future__ import annotations

import json
from typing import Any

from allkit.testing.checks import require

__all__ = ["CHECKS"]


def every_setting_says_what_it_does(record: Any) -> None:
    """Each setting has a description, which `allkit plugins show` prints."""
    without = [
        name for name, field in record.settings.model_fields.items() if not field.description
    ]
    require(
        not without,
        f"No description: {', '.join(without)}. Write `{without[0] if without else ''}: float = "
        "Field(0.1, description='what it does')`.",
    )


def settings_are_kept_by_a_model(record: Any) -> None:
    """Written as JSON, as a model stores them, and read back, the settings are the same."""
    chosen = record.chosen if record.chosen is not None else record.settings()
    read = record.settings.model_validate(json.loads(json.dumps(chosen.model_dump(mode="json"))))
    require(read == chosen, f"Written and read back, {chosen!r:.200} is {read!r:.200}.")


CHECKS = (every_setting_says_what_it_does, settings_are_kept_by_a_model)
