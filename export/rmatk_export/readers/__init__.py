"""Read a trained model's towers into plain NumPy dataclasses."""
