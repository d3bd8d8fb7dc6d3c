"""The time zone of a North American postal code.

United States: the zone that most people of the code's two-digit region live in. Regions that two
zones share (Indiana, Kentucky, Tennessee, the Dakotas, western Texas) count whole for the one with
more people. Canada: by the first letter, which names the province. Anything else is UTC.
"""

import re

EASTERN = "America/New_York"
CENTRAL = "America/Chicago"
MOUNTAIN = "America/Denver"
PACIFIC = "America/Los_Angeles"

_US_FIRST_DIGIT = {
    "0": EASTERN,
    "1": EASTERN,
    "2": EASTERN,
    "3": EASTERN,
    "4": EASTERN,
    "5": CENTRAL,
    "6": CENTRAL,
    "7": CENTRAL,
    "8": MOUNTAIN,
    "9": PACIFIC,
}
_US_EXCEPTIONS = {
    **dict.fromkeys(("35", "36", "37", "38", "39"), CENTRAL),
    "59": MOUNTAIN,
    **dict.fromkeys(("85", "86"), "America/Phoenix"),
    **dict.fromkeys(("889", "890", "891", "893", "894", "895", "897", "898"), PACIFIC),
    **dict.fromkeys(("967", "968"), "Pacific/Honolulu"),
    **dict.fromkeys(("995", "996", "997", "998", "999"), "America/Anchorage"),
}
_CANADA = {
    "A": "America/St_Johns",
    **dict.fromkeys("BCE", "America/Halifax"),
    **dict.fromkeys("GHJKLMNP", "America/Toronto"),
    "R": "America/Winnipeg",
    "S": "America/Regina",
    "T": "America/Edmonton",
    "V": "America/Vancouver",
    "X": "America/Yellowknife",
    "Y": "America/Whitehorse",
}
_US_CODE = re.compile(r"[0-9]{5}")
_CANADIAN_CODE = re.compile(r"[A-Z][0-9][A-Z]")


def time_zone(postal_code: str) -> str:
    """IANA time zone of a postal code, by this module's rule; `UTC` when it is of neither form."""
    if _US_CODE.fullmatch(postal_code):
        for length in (3, 2):
            if zone := _US_EXCEPTIONS.get(postal_code[:length]):
                return zone
        return _US_FIRST_DIGIT[postal_code[0]]
    if _CANADIAN_CODE.match(postal_code):
        return _CANADA.get(postal_code[0], "UTC")
    return "UTC"
