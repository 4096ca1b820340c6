"""The options of ``migrate`` that Django's own doesn't have."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--lock-timeout", "0", "must be a number of seconds from 0.001 to 3600, not '0'"),
        ("--lock-timeout", "nan", "must be a number of seconds from 0.001 to 3600, not 'nan'"),
        ("--lock-tries", "few", "must be a whole number from 1 to 1000, not 'few'"),
    ],
)
def test_a_wrong_option_is_named(option: str, value: str, message: str) -> None:
    with pytest.raises(CommandError) as error:
        call_command("migrate", option, value)
    assert message in str(error.value)
