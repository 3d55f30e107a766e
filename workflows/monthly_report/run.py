"""Tells each customer what a released feature did in a month: report.html and report.pdf with the same numbers.

Reads decisions (S3), labels (data source plant), the ledger, and customers.yml of the run's commit. The first run after
the month's end freezes the numbers; every later run for the month (and revision) makes the same bytes of them.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from monthly_report import collect, customers, page
from monthly_report.collect import Asked
from monthly_report.month import Month, Span
from toolbox import context, pdf, report
from toolbox.data import DataError
from toolbox.report import Report
from twinops.aws.ledger import LedgerError

CLONE = Path(__file__).resolve().parents[2]


def main() -> int:
    """Exit code 0: reported; 2: a parameter, the table of customers or a source cannot be used."""
    run = context.load()
    asked = run.parameters
    today = run.started.date()
    try:
        span = Span.of(asked["month"], today)
        everyone = customers.load(customers.path(CLONE, run.twin["env"]), asked["feature"])
        who = customers.chosen(everyone, asked["customer"])
        about = Asked(span, asked["revision"], everyone, customers.releases_of(CLONE, who[0].model))
        known = functools.cache(functools.partial(collect.known, run, about))
        found = {one.name: collect.month_of(run, one, about, known) for one in who}
    except (ValueError, customers.CustomerError, DataError, LedgerError) as error:
        print(f"monthly_report: {error}", file=sys.stderr)
        return 2
    reports = [(name, write(run.output / name if len(found) > 1 else run.output, one)) for name, one in found.items()]
    first = reports[0][1]
    if len(reports) > 1:
        first = page.overview(reports, who[0].feature_title, span.name)
        (run.output / "report.html").write_text(report.html(first), "utf-8")
    (run.output / "summary.txt").write_text(report.text(first), "utf-8")
    for name, one in reports:
        print(f"{name}: {one.headline}")
    return 0


def write(folder: Path, month: Month) -> Report:
    """The report of a month, in a folder, with what it was made from."""
    made = page.report(month)
    folder.mkdir(exist_ok=True)
    (folder / "report.html").write_text(report.html(made), "utf-8")
    (folder / "report.pdf").write_bytes(pdf.pdf(made))
    (folder / "usage.csv").write_text(page.usage_csv(month), "utf-8")
    (folder / "month.json").write_bytes(month.to_bytes())
    return made


if __name__ == "__main__":
    try:
        sys.exit(main())
    except context.ContextError as mistake:
        sys.exit(f"monthly_report: {mistake}")
