"""Learning the parameters of a scorer or a layer from a loss and its gradients."""

from attention_core.fitting.lbfgs import Fit, Learnable, Loss, fit

__all__ = ["Fit", "Learnable", "Loss", "fit"]
