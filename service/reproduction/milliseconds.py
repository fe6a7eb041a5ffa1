"""Times as tables show them."""


def milliseconds(time_ms: float) -> str:
    """Return a time with three digits or more, without its unit: "1,234.5", "12.3", "1.23", "0.123"."""
    decimals = 1 if time_ms >= 10 else 2 if time_ms >= 1 else 3
    return f"{time_ms:,.{decimals}f}"
