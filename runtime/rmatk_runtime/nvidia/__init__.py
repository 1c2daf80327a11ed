"""NVIDIA's driver and CUDA, through their Python bindings."""
