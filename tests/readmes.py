"""The READMEs, taken apart."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
OF_INVENTORY = ROOT / "inventory" / "README.md"
OF_SHOP = ROOT / "shop" / "README.md"
OF_DEPLOYMENT = ROOT / "shop" / "deployment" / "README.md"
OF_MONITORING = ROOT / "shop" / "deployment" / "monitoring" / "README.md"
OF_BACKUP = ROOT / "shop" / "deployment" / "backup.md"
OF_PAYMENTS = ROOT / "shop" / "payments" / "README.md"
OF_LOAD_TESTS = ROOT / "shop" / "load_tests" / "README.md"
OF_TOOLS = ROOT / "tests" / "tools" / "README.md"
READMES = [
    *(README, OF_INVENTORY, OF_SHOP, OF_DEPLOYMENT, OF_MONITORING, OF_BACKUP, OF_PAYMENTS),
    *(OF_LOAD_TESTS, OF_TOOLS),
]


def prose(readme: Path) -> str:
    """The text without its blocks of code."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", readme.read_text())


def blocks(readme: Path, language: str) -> list[str]:
    """The blocks of code in that language."""
    found = re.findall(rf"(?ms)^( *)```{language}\n(.*?)^\1```$", readme.read_text())
    return [textwrap.dedent(code) for _, code in found]


def block_with(readme: Path, words: str) -> str:
    """The one block of Python that contains this text."""
    (code,) = [code for code in blocks(readme, "python") if words in code]
    return code
