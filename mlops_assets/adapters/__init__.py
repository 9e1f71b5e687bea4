"""The only place that imports third-party clients."""
