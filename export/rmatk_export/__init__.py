"""Trained adapters to bundles: read the towers, fold the adapters in, write the graphs, prove them right."""
