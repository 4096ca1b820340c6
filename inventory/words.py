"""Numbers of things, as people read them."""


def counted(number: int, one: str, many: str = "") -> str:
    """``1 unit``, ``2 units``, ``1,000 units``; ``many`` where an s is not enough.

    The noun may bring its verb: ``counted(2, "unit is", "units are")`` is ``2 units are``.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
