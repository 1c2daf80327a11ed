"""Latency, throughput and memory of a bundle, with the state of the machine during the measurement."""
