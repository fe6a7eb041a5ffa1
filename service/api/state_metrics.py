"""Metrics of the current state, read at each scrape: readiness, queues, requests in flight, models and their scores."""

import asyncio
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from service.api.traffic import Traffic
from service.engine.fleet import Fleet


class StateMetrics(Collector):
    """Asks the fleet and the traffic; keeps nothing, so nothing goes stale."""

    def __init__(self, fleet: Fleet, traffic: Traffic) -> None:
        self._fleet = fleet
        self._traffic = traffic

    def describe(self) -> list[Metric]:
        """Return nothing: the parts are not asked before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield each metric as it is now."""
        yield GaugeMetricFamily(
            "alnet_requests_in_flight",
            "Uploads being received or answered, until their answers are made.",
            value=self._traffic.in_flight,
        )
        yield GaugeMetricFamily("alnet_ready", "1 if /readyz says so.", value=self._fleet.is_ready)
        yield GaugeMetricFamily(
            "alnet_device_memory_bytes",
            "GPU memory held by the networks; 0 on the CPU.",
            value=self._fleet.device_memory_bytes,
        )
        yield GaugeMetricFamily("alnet_tasks", "Tasks of the event loop, running or waiting.", value=_tasks())
        yield from self._modalities()
        yield from self._models()

    def _modalities(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily("alnet_modality_ready", "1 if the modality can be served.", labels=["modality"])
        depth = GaugeMetricFamily("alnet_queue_depth", "Uploads that wait for the network.", labels=["modality"])
        refused = GaugeMetricFamily(
            "alnet_checkpoint_refused", "1 if what the store asks for cannot be served.", labels=["modality"]
        )
        for modality, state in self._fleet.states.items():
            ready.add_metric([modality], state.status == "ready")
            depth.add_metric([modality], self._fleet.queued(modality))
            refused.add_metric([modality], state.refused is not None)
        yield ready
        yield refused
        yield depth

    def _models(self) -> Iterator[Metric]:
        info = InfoMetricFamily("alnet_model", "The checkpoint that serves a modality.", labels=["modality"])
        score = GaugeMetricFamily(
            "alnet_validated_iou_ratio", "Mean IoU on the checkpoint's held-out images.", labels=["modality"]
        )
        for modality, card in self._fleet.cards.items():
            about = {"version": card.version, "sha256": card.weights_sha256, "architecture": card.architecture}
            info.add_metric([modality], about)
            if card.test is not None:
                score.add_metric([modality], card.test.iou_mean)
        yield info
        yield score


def _tasks() -> int:
    """Return how many tasks there are; 0 if called outside an event loop."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0
