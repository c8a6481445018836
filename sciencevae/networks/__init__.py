"""Plain building blocks, with shapes in their docstrings."""

from sciencevae.networks.autoregressive import CausalTransformer, PixelCNN, Raster, Recurrent
from sciencevae.networks.convolution import (
    ConvolutionalCodes,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    ConvolutionalImage,
)
from sciencevae.networks.convolution1d import ConvolutionalDecoder1d, ConvolutionalEncoder1d
from sciencevae.networks.fields import Fields, Identity
from sciencevae.networks.modulated import Modulated
from sciencevae.networks.perceptron import ACTIVATIONS, Perceptron, Reshaped
from sciencevae.networks.recurrent import RecurrentEncoder

__all__ = [
    "ACTIVATIONS",
    "CausalTransformer",
    "ConvolutionalCodes",
    "ConvolutionalDecoder",
    "ConvolutionalDecoder1d",
    "ConvolutionalEncoder",
    "ConvolutionalEncoder1d",
    "ConvolutionalImage",
    "Fields",
    "Identity",
    "Modulated",
    "Perceptron",
    "PixelCNN",
    "Raster",
    "Recurrent",
    "RecurrentEncoder",
    "Reshaped",
]
