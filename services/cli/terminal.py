"""Where the commands print."""

from rich.console import Console

WIDTH_OF_FILES = 132


def console(*, markup: bool = False) -> Console:
    """Standard output: as wide as the terminal, or wide enough for the tables in a file or pipe.

    Without `markup`, titles, ids and reasons are data, and markup in them means nothing.
    """
    printed = Console(markup=markup)
    return printed if printed.is_terminal else Console(markup=markup, width=WIDTH_OF_FILES)
