"""Networks, each one paper: torch only. Knows no files, no HTTP, no settings."""

from service.network.registry import (
    ARCHITECTURES,
    build,
    build_reparameterized,
    check_values,
    count_parameters,
    reparameterize,
)

__all__ = ["ARCHITECTURES", "build", "build_reparameterized", "check_values", "count_parameters", "reparameterize"]
