"""When a view is rebuilt: a preset such as @hourly, a cron expression of five fields, or never.

Times are UTC. A schedule is no part of what a view means: it changes neither its version nor what
is registered.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from croniter import CroniterError, croniter

NEVER = "never"
PRESETS = ("@hourly", "@daily", "@weekly", "@monthly")
ALLOWED = f"{', '.join(PRESETS)}, a cron expression of five fields such as '0 3 * * *', or 'never'"

# numbers and the names of days and months; croniter knows more, such as a random minute
CRON = re.compile(r"((?:[\d*,/-]|[a-z]{3})+ ){4}(?:[\d*,/-]|[a-z]{3})+", re.IGNORECASE)
ANY_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


def fits(text: str) -> bool:
    """Whether a text is a schedule, and one that ever comes: not that of a 31st of February."""
    if text in (NEVER, *PRESETS):
        return True
    if not CRON.fullmatch(text):
        return False
    try:
        croniter(text, ANY_MOMENT).get_next()
    except CroniterError:
        return False
    return True
