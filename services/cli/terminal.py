"""Where the commands print."""

from rich.console import Console

WIDTH_OF_FILES = 132


def console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for the tables in a file or pipe.

    Titles, ids and reasons are data, so markup in them means nothing.
    """
    printed = Console(markup=False)
    return printed if printed.is_terminal else Console(markup=False, width=WIDTH_OF_FILES)
