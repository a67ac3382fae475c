"""The layers."""

from fastconv.nn.layers.base import Layer
from fastconv.nn.layers.convolution import Conv2D, DepthwiseConv2D
from fastconv.nn.layers.dense import Activation, Dense, Flatten
from fastconv.nn.layers.input import Input, InputLayer
from fastconv.nn.layers.normalization import BatchNormalization
from fastconv.nn.layers.pooling import AveragePooling2D, GlobalAveragePooling2D, MaxPooling2D, UpSampling2D
from fastconv.nn.layers.regularization import Dropout
from fastconv.nn.layers.separable import SeparableConv2D
from fastconv.nn.layers.transposed import Conv2DTranspose

__all__ = [
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "Input",
    "InputLayer",
    "Layer",
    "MaxPooling2D",
    "SeparableConv2D",
    "UpSampling2D",
]
