"""Every event that is counted or measured: in which unit, under which closed sets of labels."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

from service import errors
from service.api import problems
from service.api.exchange import CALLER_LEFT, Exchange
from service.engine.batch_runner import BatchReport
from service.engine.cautions import CODES
from service.engine.modality import OUTCOMES, Outcome
from service.engine.segmenter import Segmentation

disable_created_metrics()  # type: ignore[no-untyped-call]  # they are a third more series, which nobody asks for

UNKNOWN = "unknown"
STAGES = ("decode", "queue", "inference", "postprocess", "total")
STATUSES = sorted({200, 405, CALLER_LEFT, *problems.STATUS.values()})
DEADLINE, OWN_DEADLINE = problems.slug(errors.DeadlineExceeded), "own-deadline"
"""Whose deadline an upload missed: the server's, or a shorter one that its caller had set."""
REASONS = [problems.slug(kind) for kind, status in problems.STATUS.items() if status != 500] + [OWN_DEADLINE]
SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)
PIXELS = (1e5, 3e5, 1e6, 3e6, 1e7, 3e7)
TILES = (1, 2, 4, 8, 16, 32)
LAG_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


class Telemetry:
    """All metrics, on a registry of their own so that tests can have many.

    Events are recorded here; `StateMetrics` reads the current state (queue depth, models) at each scrape.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._scrapes: dict[str, asyncio.Future[bytes]] = {}
        ProcessCollector(registry=self.registry)
        self._modalities: frozenset[str] = frozenset()
        self._requests = self._counter("requests", "Segmentation requests by status.", "modality", "status")
        self._refused = self._counter("refused", "Segmentation requests refused, by kind of problem.", "reason")
        self._warnings = self._counter("warnings", "Warnings in answers.", "modality", "code")
        self._failed_batches = self._counter("failed_batches", "Batches of which something failed.", "modality")
        self._checkpoints = self._counter(
            "checkpoints", "Checkpoints that were loaded from the store, by what became of them.", "modality", "outcome"
        )
        self._stages = self._histogram(
            "stage_seconds", "Time of an upload in each stage.", SECONDS, "modality", "stage"
        )
        self._batch_size = self._histogram("batch_size", "Tiles in one batch.", TILES, "modality")
        self._pixels = self._histogram("input_pixels", "Pixels of an upload.", PIXELS)
        self._iou = self._histogram("expected_iou_ratio", "IoU to expect of a mask.", FRACTIONS, "modality")
        self._foreground = self._histogram("foreground_ratio", "Foreground in a mask.", FRACTIONS, "modality")
        self._lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop is, fifty times a second.", LAG_SECONDS
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"alnet_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"alnet_{name}", text, labels, buckets=buckets, registry=self.registry)

    async def text_of(self, media_type: str, encode: Callable[[CollectorRegistry], bytes]) -> bytes:
        """Return all metrics as they are now, written by `encode` in `media_type`.

        This takes some milliseconds of the event loop, more with more connections: scrapers who ask at the same time
        share one text.
        """
        if media_type not in self._scrapes:
            loop = asyncio.get_running_loop()
            self._scrapes[media_type] = loop.create_future()
            loop.call_soon(self._write, media_type, encode)
        return await asyncio.shield(self._scrapes[media_type])

    def _write(self, media_type: str, encode: Callable[[CollectorRegistry], bytes]) -> None:
        scrape = self._scrapes.pop(media_type)
        try:
            scrape.set_result(encode(self.registry))
        except Exception as error:  # noqa: BLE001 - handed over to whoever waits
            scrape.set_exception(error)

    def expect(self, modalities: Iterable[str]) -> None:
        """Make every series that these modalities can have, so that each is there, at 0, before its first event."""
        self._modalities |= set(modalities)
        for reason in REASONS:
            self._refused.labels(reason)
        for modality in (*self._modalities, UNKNOWN):
            for status in STATUSES:
                self._requests.labels(modality, str(status))
        for modality in self._modalities:
            for series, values in (
                (self._warnings, CODES),
                (self._stages, STAGES),
                (self._checkpoints, OUTCOMES),
            ):
                for value in values:
                    series.labels(modality, value)
            for series in (self._failed_batches, self._batch_size, self._iou, self._foreground):
                series.labels(modality)

    def record_exchange(self, exchange: Exchange) -> None:
        """Count a finished request, if it asked for a segmentation."""
        if exchange.modality is None or not exchange.route.startswith("/segment/"):
            return
        modality = exchange.modality if exchange.modality in self._modalities else UNKNOWN
        status = exchange.status if exchange.status in STATUSES else 400  # 431: the trailers of a body are too long
        self._requests.labels(modality, str(status)).inc()
        reason = OWN_DEADLINE if exchange.problem == DEADLINE and exchange.is_hurried else exchange.problem
        if reason in REASONS:
            self._refused.labels(reason).inc()

    def record_segmentation(self, modality: str, done: Segmentation) -> None:
        """Measure one upload that was answered."""
        for stage in STAGES:
            self._stages.labels(modality, stage).observe(getattr(done.latency, stage))
        self._pixels.observe(done.width * done.height)
        self._iou.labels(modality).observe(done.expected_iou)
        self._foreground.labels(modality).observe(done.area_fraction)
        for caution in done.cautions:
            self._warnings.labels(modality, caution.code).inc()

    def record_checkpoint(self, modality: str, outcome: Outcome) -> None:
        """Count a checkpoint that was swapped in or refused."""
        self._checkpoints.labels(modality, outcome).inc()

    def record_lag(self, seconds: float) -> None:
        """Record one measurement of how late the event loop was."""
        self._lag.observe(seconds)

    def record_batch(self, modality: str, report: BatchReport) -> None:
        """Measure one batch."""
        self._batch_size.labels(modality).observe(report.size)
        if report.failed:
            self._failed_batches.labels(modality).inc()
