"""What Prometheus reads: counts and times, never a name."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "allkit_requests", "Requests answered.", ["endpoint", "status"], registry=registry
        )
        self.seconds = Histogram(
            "allkit_request_seconds",
            "From the head of a request to its answer.",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self.images = Counter(
            "allkit_images", "Images answered, by verdict.", ["verdict"], registry=registry
        )
        self.inside = Gauge(
            "allkit_images_inside",
            "Images being read, waiting or being answered.",
            registry=registry,
        )
        self.batch = Histogram(
            "allkit_batch_images",
            "Images in a micro-batch.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )
        self.model_seconds = Histogram(
            "allkit_batch_seconds",
            "Time of the model for a micro-batch.",
            buckets=SECONDS,
            registry=registry,
        )

    def page(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)
