"""Plain building blocks, with shapes in their docstrings."""

from sciencevae.networks.autoregressive import CausalTransformer, PixelCNN, Raster, Recurrent
from sciencevae.networks.convolution import (
    ConvolutionalCodes,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    ConvolutionalImage,
)
from sciencevae.networks.fields import Fields, Identity
from sciencevae.networks.perceptron import ACTIVATIONS, Perceptron, Reshaped
from sciencevae.networks.recurrent import RecurrentEncoder

__all__ = [
    "ACTIVATIONS",
    "CausalTransformer",
    "ConvolutionalCodes",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "ConvolutionalImage",
    "Fields",
    "Identity",
    "Perceptron",
    "PixelCNN",
    "Raster",
    "Recurrent",
    "RecurrentEncoder",
    "Reshaped",
]
