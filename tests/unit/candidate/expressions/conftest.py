"""A profile for looking long: `--hypothesis-profile=thorough --timeout=0`."""

from hypothesis import settings

settings.register_profile("thorough", max_examples=20_000)
