"""TensorRT: engines are built, keyed, stored and run here."""
