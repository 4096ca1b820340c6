"""Send the shop thousands of odd requests, and check each answer and what it has changed.

    python -m tests.tools.fuzz [--requests N] [--seed N] [--only N]

The shop runs on a scratch database, with a gunicorn of its own for each way of serving it.
Addresses come from the URLconf, and forms from the pages. A part of each request is made odd: its
address, query, method, headers, cookies or body; some are no requests at all. The senders are a
visitor, a buyer, and each kind of staff. A request depends on the seed and its number alone:
``--only`` sends it again. (The answer also depends on the requests before it.)

It ends with exit code 1 if it has found a fault. Ctrl-C ends it early, with a report.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

import django

from inventory.races.management.output import whole_number
from tests.tools.drills import ErrorsFirstParser, unwind_on_sigterm


def main() -> int:
    options = read_options()
    unwind_on_sigterm()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    with tempfile.TemporaryDirectory(prefix="fuzz-media-") as media:
        os.environ["MEDIA_ROOT"] = media
        return start(options, media)


def read_options() -> argparse.Namespace:
    number = whole_number(0, 10**7)
    parser = ErrorsFirstParser(
        prog="python -m tests.tools.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--requests", type=number, default=20_000, help="default: 20000")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--only", type=number, help="send the request of that number alone")
    return parser.parse_args()


def start(options: argparse.Namespace, media: str) -> int:
    from tests.tools.fuzz.environment import AS_IN_PRODUCTION

    os.environ |= AS_IN_PRODUCTION
    django.setup()
    from inventory.races.errors import Misuse
    from shop.load_tests.serving import NotServed

    try:
        return drill(options, media)
    except (Misuse, NotServed) as error:
        print(error, file=sys.stderr)
        return 2


def drill(options: argparse.Namespace, media: str) -> int:
    """Run the drill on a scratch database. Raises Misuse, NotServed."""
    from inventory import monitor
    from inventory.races.scratch import scratch_database
    from tests.tools.fuzz import changes
    from tests.tools.fuzz.drill import Drill
    from tests.tools.fuzz.report import report
    from tests.tools.fuzz.serving import web_servers

    numbers = range(options.requests) if options.only is None else [options.only]
    with scratch_database(), tempfile.TemporaryFile() as log:
        with changes.noted(), web_servers(media, log) as servers:
            run = Drill(servers, options.seed)
            targets = run.world.targets
            reached = f"{len(targets.addresses)} addresses, {len(targets.forms)} forms"
            print(f"{reached}, seed {options.seed}", flush=True)
            results = run.run(numbers)
        if results.found:
            log.seek(0)
            print(log.read().decode(errors="replace")[-100_000:])
        broken = len(monitor.check())
    print(report(results))
    print(f"Products whose units are not all accounted for: {broken}")
    return 1 if results.found or broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
