"""Asks a running service for its figures, as Prometheus does, for tests."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families
from running_service import RunningService


class Figures:
    """What `/metrics` said: the text, and the value of each series."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._values[(sample.name, frozenset(sample.labels.items()))] = sample.value

    def __call__(self, name: str, **labels: str) -> float:
        """The value of `tamlil_{name}` with just these labels; 0 if it is not there."""
        return self._values.get((f"tamlil_{name}", frozenset(labels.items())), 0.0)

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self._values}


def scrape(service: RunningService, token: str = "") -> Figures:
    """One scrape."""
    request = urllib.request.Request(f"{service.address}/metrics")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return Figures(answer.read().decode())


def scrape_until(
    service: RunningService,
    holds: Callable[[Figures], bool],
    token: str = "",
    timeout: float = 30,
) -> Figures:
    """Scrape until it `holds` of the figures."""
    deadline = time.monotonic() + timeout
    while True:
        figures = scrape(service, token)
        if holds(figures):
            return figures
        assert time.monotonic() < deadline, f"not in time:\n{figures.text}"
        time.sleep(0.2)  # nothing tells when a figure changes: one asks again, as Prometheus does
