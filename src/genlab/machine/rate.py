"""The one way in which genlab writes how many things are done in a second."""


def rate(per_second: float | None, unit: str = "") -> str:
    """Write a rate: whole numbers from 100, three digits below; ``-`` if it is not known.

    Args:
        per_second: number of things in a second.
        unit: unit, such as ``images/s``, if it does not stand in the title above.
    """
    if per_second is None:
        return "-"
    number = f"{per_second:,.0f}" if abs(per_second) >= 99.95 else f"{per_second:.3g}"
    return f"{number} {unit}".rstrip()
