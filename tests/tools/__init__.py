"""Programs for those who work on the shop."""

from __future__ import annotations

import sys
from importlib.util import find_spec

if missing := [name for name in ("html5lib", "playwright", "pytest") if find_spec(name) is None]:
    print(
        f"The tools need the packages of requirements-dev.txt: there is no {missing[0]}.",
        file=sys.stderr,
    )
    sys.exit(2)
