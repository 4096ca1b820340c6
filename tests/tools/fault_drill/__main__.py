"""Hit a shop with faults while people buy in it, and compare all that it told them.

    python -m tests.tools.fault_drill [--faults N] [--seed N] [--only KIND] [--seconds N]

A PostgreSQL, a web server and a worker of the drill's own serve buyers over HTTP; a stand-in for
Stripe and a mail server are beside them. Each fault comes at a random moment, and nobody helps the
programs to come back.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import django

from tests.tools.drills import ErrorsFirstParser, unwind_on_sigterm, whole_number
from tests.tools.fault_drill.disk import small_disk
from tests.tools.fault_drill.faults import KINDS
from tests.tools.fault_drill.report import Report


def main() -> None:
    options = make_parser().parse_args()
    unwind_on_sigterm()
    logs = Path(tempfile.mkdtemp(prefix="fault-drill-logs-"))
    report = Report(options.seed)
    problem = ""
    try:
        problem = run(options, report, logs)
    except KeyboardInterrupt:
        sys.exit("Broken off. Everything that was started has ended.")
    finally:
        if not problem:
            shutil.rmtree(logs)
    if problem:
        sys.exit(f"{problem}\nThe logs of all programs are in {logs}.\n\n{report}")
    print(report)


def make_parser() -> argparse.ArgumentParser:
    parser = ErrorsFirstParser(
        prog="python -m tests.tools.fault_drill", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--faults", type=whole_number, default=12, help="how many; default 12")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of all chance; printed"
    )
    kinds = [kind.kind for kind in KINDS]
    parser.add_argument(
        "--only", metavar="KIND", choices=kinds, help=f"only one kind of fault: {', '.join(kinds)}"
    )
    parser.add_argument(
        "--seconds", type=whole_number, default=3600, help="no fault begins later; default 3600"
    )
    return parser


def run(options: argparse.Namespace, report: Report, logs: Path) -> str:
    """Run the drill, and fill in the report; return what is wrong, or an empty text."""
    from tests.tools.fault_drill.machines import begun_machines, begun_postgres

    began = time.monotonic()
    with small_disk() as disk, begun_postgres(disk, logs) as postgres:
        os.environ["DATABASE_URL"] = postgres.url_of_drill
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        django.setup()
        from django.core.management import call_command

        from tests.tools.fault_drill.drill import Drill, DrillFailed, Impossible

        call_command("migrate", verbosity=0, interactive=False)
        with begun_machines(postgres, disk, logs) as machines:
            try:
                drill = Drill(machines, report, options.only)
            except Impossible as error:
                sys.exit(str(error))
            try:
                drill.run(options.faults, options.seed, options.seconds)
            except DrillFailed as failed:
                machines.describe(logs)
                return f"{failed}\nAgain: python -m tests.tools.fault_drill {failed.again}"
            finally:
                drill.count_everything()
                report.seconds = time.monotonic() - began
    return ""


if __name__ == "__main__":
    main()
