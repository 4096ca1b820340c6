"""The marker of a request: a text that is dangerous wherever it comes out as it went in.

It has the request's number. So a marker that comes out of a later page says which request left it.
"""

from __future__ import annotations

import random
import re

MARK = re.compile(r"zq\d+", re.IGNORECASE)


def make_marker(number: int, chance: random.Random, *, plain: bool = False) -> bytes:
    """One of the marker's forms, each for another context; a ``plain`` one has no line break."""
    name = f"zq{number}"
    forms = [
        f"{name}\"'><{name} {name}=1>&{name};javascript:{name}",
        f"javascript:{name}//\"'><{name}>&",
        f"//{name}.example/\"'><{name}>",
        f"https://{name}.example/?\"'><{name}>&",
        f"/\\{name}.example/",
        f"={name}+\"'<{name}>&1",
        f"</script></textarea></title><{name}>\"'&javascript:{name}",
        f"' {name}=1 \" {name}=1 `${{{name}}}{{{{{name}}}}}<{name}>&",
    ]
    if not plain:
        forms.append(f"{name}\r\nX-{name}: yes\r\nSet-Cookie: {name}=1\r\n\r\n<{name}>\"'&")
    return chance.choice(forms).encode()


def has_mark(text: str) -> bool:
    return bool(MARK.search(text))
