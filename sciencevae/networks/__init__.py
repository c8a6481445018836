"""Plain building blocks, with shapes in their docstrings."""

from sciencevae.networks.perceptron import ACTIVATIONS, Perceptron

__all__ = ["ACTIVATIONS", "Perceptron"]
