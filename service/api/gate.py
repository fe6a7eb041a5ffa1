"""Who may ask, and how often: checked as soon as a request's headers are there, before a byte of its body is read."""

from ipaddress import ip_address, ip_network
from pathlib import Path

from fastapi import Request

from service.api.exchange import Exchange
from service.api.keys import KeyRing
from service.api.rate_limit import RateLimiter
from service.errors import BadSettings
from service.settings import Settings

OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/livez", "/readyz"})
"""Paths that need no key and count against no limit: orchestrators' probes, and pages that hold nobody's data."""
METRICS = "/metrics"
UNKNOWN_ADDRESS = "unknown"


class Gate:
    """Guards every route but the open ones, so that a route added later is guarded unless somebody opens it."""

    def __init__(self, keys: KeyRing | None, limiter: RateLimiter | None, open_paths: frozenset[str]) -> None:
        self._keys = keys
        self._limiter = limiter
        self._open_paths = open_paths

    @classmethod
    def of(cls, settings: Settings) -> "Gate":
        """Return the gate that the settings ask for.

        Raises:
            BadSettings: the key file is missing or damaged; or /metrics is to need a key, but no key file is set; or a
                burst is set without a rate limit.
        """
        if settings.metrics_access == "key" and not settings.api_keys:
            raise BadSettings("ALNET_METRICS_ACCESS=key, but there are no keys: set ALNET_API_KEYS too")
        if settings.rate_burst and not settings.rate_limit:
            raise BadSettings("ALNET_RATE_BURST is set, but there is no rate limit: set ALNET_RATE_LIMIT too")
        limit, burst = settings.rate_limit, settings.rate_burst or settings.rate_limit
        return cls(
            keys=KeyRing(Path(settings.api_keys)) if settings.api_keys else None,
            limiter=RateLimiter(limit, burst) if limit else None,
            open_paths=OPEN_PATHS | ({METRICS} if settings.metrics_access == "open" else set()),
        )

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to check; if not, no request need pay for it."""
        return self._keys is not None or self._limiter is not None

    @property
    def asks_for_keys(self) -> bool:
        """Whether callers need a key."""
        return self._keys is not None

    @property
    def limits_callers(self) -> bool:
        """Whether there is a limit on how often callers may ask."""
        return self._limiter is not None

    def guards(self, path: str) -> bool:
        """Whether the route of this path template is behind the gate."""
        return path not in self._open_paths

    async def __call__(self, request: Request) -> None:
        """Let the request pass to its route; if that is guarded, `let_in` checks it first, unless it already has."""
        if self.guards(request.scope["route"].path) and not getattr(request.state, "is_let_in", False):
            self.let_in(request)

    def let_in(self, request: Request) -> None:
        """Let the request pass; if there is a limit, its answer will say what is left of the caller's allowance.

        Raises:
            KeyNeeded: callers need a key, and this one sent none, or an unknown one.
            RateLimited: the caller has sent too many requests.
        """
        holder = None if self._keys is None else self._keys.holder(request.headers)
        if self._limiter is not None:
            _spend(self._limiter, _network(request) if holder is None else holder, Exchange.of(request))
        request.state.is_let_in = True  # nobody pays twice for one request


def _spend(limiter: RateLimiter, caller: str, exchange: Exchange) -> None:
    try:
        limiter.spend(caller)
    finally:
        exchange.headers |= _allowance_headers(limiter, caller)


def _network(request: Request) -> str:
    """Return the address that the connection comes from, whatever headers say: anybody can write those.

    Of an IPv6 address only the first 64 bits count: whoever has one address has all that share them.
    """
    try:
        address = ip_address(request.client.host if request.client else "")
    except ValueError:
        return UNKNOWN_ADDRESS
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ip_network((address, 64), strict=False))


def _allowance_headers(limiter: RateLimiter, caller: str) -> dict[str, str]:
    """Return the fields of draft-ietf-httpapi-ratelimit-headers (10): quota and window; remaining, and time to full."""
    allowance = limiter.allowance(caller)
    return {
        "RateLimit-Policy": f'"caller";q={limiter.burst};w={limiter.window_s}',
        "RateLimit": f'"caller";r={allowance.remaining};t={allowance.full_in_s}',
    }
