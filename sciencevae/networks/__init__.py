"""Plain building blocks, with shapes in their docstrings."""

from sciencevae.networks.fields import Fields, Identity
from sciencevae.networks.perceptron import ACTIVATIONS, Perceptron

__all__ = ["ACTIVATIONS", "Fields", "Identity", "Perceptron"]
