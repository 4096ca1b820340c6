"""Run the command ``races`` many times in one process, in one scratch database, which is quicker.

Takes a list of lists of arguments as JSON, and prints a list of [exit code, output, errors].
"""

import json
import sys
from contextlib import nullcontext
from io import StringIO

import django
from django.core.management import CommandError, call_command

django.setup()

from django.db import connection  # noqa: E402
from races import url_race  # noqa: E402
from races.scratch import scratch_database  # noqa: E402

FILLED = ("tickets_concert", "tickets_tag", "tickets_log", "auth_user", "django_session")


def run(arguments: list[str]) -> tuple[int, str, str]:
    out, errors, code = StringIO(), StringIO(), 0
    try:
        call_command("races", *arguments, stdout=out, stderr=errors)
    except CommandError as error:
        code = error.returncode
        errors.write(str(error))
    except SystemExit as end:
        code = int(end.code or 0)
    return code, out.getvalue(), errors.getvalue()


with scratch_database():
    url_race.scratch_database = lambda using: nullcontext()
    results = []
    for arguments in json.load(sys.stdin):
        results.append(run(arguments))
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(FILLED)} RESTART IDENTITY CASCADE")
print(json.dumps(results))
