"""Durations in messages, as people write them."""

from datetime import timedelta

_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))


def in_words(span: timedelta) -> str:
    """Such as `3 days` or `1 hour 30 minutes`, exact to the microsecond; `0 seconds` for none."""
    if span < timedelta(0):
        return f"minus {in_words(-span)}"
    left, parts = span.days * 86_400 + span.seconds, []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(_counted(str(count), unit))
    seconds = f"{left}.{span.microseconds:06}".rstrip("0").rstrip(".")
    if seconds != "0" or not parts:
        parts.append(_counted(seconds, "second"))
    return " ".join(parts)


def _counted(count: str, unit: str) -> str:
    return f"{count} {unit}" if count == "1" else f"{count} {unit}s"
