"""`python -m bench.tables JSON …`: rewrites the tables of docs/evaluation.md from bench results.

The table of the bench NAME stands between the lines `<!-- bench:NAME -->` and `<!-- end -->`.
Results without such a place are named and left out.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.report import ROOT

PAGE = ROOT / "docs" / "evaluation.md"


def table(result: dict[str, Any]) -> str:
    """The Markdown table of one bench's metrics, with the machine it ran on."""
    lines = ["| metric | value | 95 % interval | goal | met |", "| --- | --- | --- | --- | --- |"]
    for name, metric in result["metrics"].items():
        interval = "–" if metric["ci"] is None else "{:.3g} to {:.3g}".format(*metric["ci"])
        sign = "≥" if metric["better"] == "higher" else "≤"
        value = f"{metric['value']:.3g} {metric['unit']}".replace("|", "\\|")
        met = "yes" if metric["met"] else "no"
        lines.append(f"| {name} | {value} | {interval} | {sign} {metric['goal']:.3g} | {met} |")
    machine = result["machine"]
    ran = f"{machine['cores']} cores ({machine['cpu']}), Python {machine['python']}"
    return "\n".join([*lines, "", f"Measured at commit {result['commit']} on {ran}."])


def rewritten(page: str, name: str, text: str) -> str | None:
    """The page with the bench's table replaced; None when it has no place there."""
    begin, end = f"<!-- bench:{name} -->", "<!-- end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        return None
    return f"{before}{begin}\n{text}\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    page = PAGE.read_text()
    for path in arguments if arguments is not None else sys.argv[1:]:
        result = json.loads(Path(path).read_text())
        name = result["bench"]
        changed = rewritten(page, name, table(result))
        if changed is None:
            print(f"{path}: {PAGE.name} has no table of the bench {name}", file=sys.stderr)
        page = changed or page
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
