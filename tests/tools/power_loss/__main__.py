"""The command: see the package's docstring."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import CalledProcessError
from typing import TYPE_CHECKING

import django
from django.db import connections

from tests.tools.drills import Disagreement, ErrorsFirstParser, unwind_on_sigterm, whole_number
from tests.tools.power_loss.device import FILE_SYSTEMS, Device, missing, run_in_own_namespace
from tests.tools.power_loss.server import WITHOUT, Server

if TYPE_CHECKING:  # it needs Django's settings
    from tests.tools.power_loss.buyers import Crowd

LONGEST_RUSH = 2.5  # seconds until the power is lost
USAGE_ERROR = 2


def main() -> None:
    parser = ErrorsFirstParser(prog="python -m tests.tools.power_loss")
    parser.add_argument("--times", type=whole_number, default=5, help="losses of power")
    parser.add_argument("--seed", type=int, help="of the moments; printed, else made up")
    parser.add_argument("--file-system", choices=FILE_SYSTEMS, default="ext4")
    parser.add_argument("--without", choices=WITHOUT, default="", help="show what is lost then")
    options = parser.parse_args()
    if problem := missing(options.file_system):
        print(f"The power can't be lost here: {problem}.", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    run_in_own_namespace("tests.tools.power_loss")
    unwind_on_sigterm()
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    print(f"seed {seed}, {options.file_system}", flush=True)
    try:
        lose_power_repeatedly(
            options.times, random.Random(seed), options.file_system, options.without
        )
    except Disagreement as error:
        sys.exit(f"seed {seed}: {error}")
    except CalledProcessError as error:
        sys.exit(f"{error}\n{error.stderr}")
    except KeyboardInterrupt:
        sys.exit("Broken off. Everything that was started has ended.")


def lose_power_repeatedly(
    times: int, chance: random.Random, file_system: str, without: str
) -> None:
    """Lose the power so many times. Raises Disagreement if anything that was told is lost."""
    with device(file_system) as disk:
        server = Server(disk.directory / "postgres", disk.directory.parent / "log", without)
        try:
            server.make()
            server.start()
            set_django_up(server.url)
            from tests.tools.power_loss import buyers

            buyers.make_products()
            promises = buyers.Promises()
            for number in range(1, times + 1):
                before = promises.number()
                crowd = buyers.Crowd(promises)
                time.sleep(chance.uniform(0.3, LONGEST_RUSH))
                lose_power(disk, server, crowd)
                buyers.check(promises)
                new = promises.number() - before
                print(f"loss {number}: {new} things told before it, all true after it", flush=True)
            print(
                f"{times} losses: {len(promises.holds)} holds, {len(promises.placed)} orders, "
                f"{len(promises.paid)} paid: none is lost, and the law holds"
            )
        finally:
            connections.close_all()
            server.kill()


def lose_power(disk: Device, server: Server, crowd: Crowd) -> None:
    """Take the power while the crowd buys, and give it back. Raises Disagreement."""
    disk.lose_power()
    server.kill()
    crowd.wait()
    connections.close_all()
    disk.unmount()
    disk.mount()
    start_again(server)


def start_again(server: Server) -> None:
    """Start the server on what is left. Raises Disagreement if it can't."""
    try:
        server.start()
    except (TimeoutError, OSError) as error:
        end = "\n".join(server.log.read_text(errors="replace").splitlines()[-8:])
        raise Disagreement(f"PostgreSQL doesn't start any more ({error}):\n{end}") from error


@contextmanager
def device(file_system: str) -> Iterator[Device]:
    """A new file system, which is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="power-loss-") as name:
        place = Path(name).resolve()
        place.chmod(0o711)
        disk = Device(place / "image", place / "disk", file_system)
        disk.make()
        try:
            yield disk
        finally:
            with suppress(CalledProcessError):  # it is unmounted
                disk.unmount()


def set_django_up(url: str) -> None:
    """Let this process be a shop on that database."""
    os.environ.update(
        DATABASE_URL=url, DJANGO_SETTINGS_MODULE="shop.settings", EMAIL_URL="dummymail://"
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)


if __name__ == "__main__":
    main()
