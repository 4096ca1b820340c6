"""Figures as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


class Figures:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self._values: dict[tuple[str, Labels], float] = {}
        for family in self.families:
            for sample in family.samples:
                self._values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value

    def __call__(self, name: str, **labels: object) -> float | None:
        """The value of this series; None if there is none."""
        wanted = tuple(sorted((key, str(value)) for key, value in labels.items()))
        return self._values.get((name, wanted))

    def number(self, name: str, **labels: object) -> float:
        """The value of a counter; 0 if it has counted nothing yet."""
        return self(name, **labels) or 0.0

    def labels_of(self, name: str) -> set[str]:
        """The names of the labels of a family's samples, without those that make a histogram."""
        return {
            label
            for (sample, labels) in self._values
            for label, _ in labels
            if sample == name or sample.removesuffix("_bucket") == name
        } - {"le"}

    def values_of(self, name: str, label: str) -> dict[str, float]:
        """The values of a family with this one label."""
        return {
            dict(labels)[label]: value
            for (sample, labels), value in self._values.items()
            if sample == name
        }
