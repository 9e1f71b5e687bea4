"""Metrics, comparison statistics, explanations, the model card."""
