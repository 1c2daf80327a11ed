"""Labelled photos: formats, few-shot draws, batches."""
