"""The weights layer: the same weights to the bit, or weights that give the metrics that their run wrote."""

from launcher.parity.weights.layer import state_layer, weights_layer

__all__ = ["state_layer", "weights_layer"]
