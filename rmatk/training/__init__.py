"""From photos to a trained run."""
