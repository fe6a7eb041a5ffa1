"""Networks, one for each paper. Depends on torch only: no files, no HTTP, no settings."""

from service.network.registry import (
    ARCHITECTURES,
    build,
    build_reparameterized,
    check_values,
    count_parameters,
    reparameterize,
)

__all__ = ["ARCHITECTURES", "build", "build_reparameterized", "check_values", "count_parameters", "reparameterize"]
