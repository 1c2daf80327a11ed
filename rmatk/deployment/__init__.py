"""From a trained run to what a bundle is made of."""
