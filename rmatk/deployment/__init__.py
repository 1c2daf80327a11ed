"""Gathers what a bundle is made from out of a trained run."""
