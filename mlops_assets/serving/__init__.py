"""The prediction server: routing, the durable log, the Open Inference Protocol."""
