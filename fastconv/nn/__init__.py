"""Small convolutional networks: the layers of Keras, trained on fastconv's operations."""

from fastconv.nn import activations, initializers, layers, losses, optimizers
from fastconv.nn.history import Callback, History
from fastconv.nn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    InputLayer,
    Layer,
    MaxPooling2D,
    SeparableConv2D,
    UpSampling2D,
)
from fastconv.nn.model import Sequential
from fastconv.nn.random import set_random_seed
from fastconv.nn.saving import load_model

__all__ = [
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Callback",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "History",
    "Input",
    "InputLayer",
    "Layer",
    "MaxPooling2D",
    "SeparableConv2D",
    "Sequential",
    "UpSampling2D",
    "activations",
    "initializers",
    "layers",
    "load_model",
    "losses",
    "optimizers",
    "set_random_seed",
]
