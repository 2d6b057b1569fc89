"""Lines of CSV (RFC 4180) in which no spreadsheet finds a formula."""

import csv
import io
import re
from collections.abc import Iterable

# What a spreadsheet takes for a formula, after any number of the apostrophes that turn it into text.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def csv_line(cells: Iterable[object]) -> str:
    """Return one line of a CSV file with these cells, each of them escaped."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow([escape_cell(str(cell)) for cell in cells])
    return buffer.getvalue()


def escape_cell(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula; `unescape_cell` reverses it."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescape_cell(cell: str) -> str:
    """Return a cell as it was before `escape_cell`. Not for passwords, which are never exported and so never escaped."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
