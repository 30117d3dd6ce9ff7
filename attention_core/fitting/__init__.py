"""Learning the parameters of a scorer or a layer from a loss and its gradients."""

from attention_core.fitting.lbfgs import Fit, fit
from attention_core.fitting.objective import Learnable, Loss

__all__ = ["Fit", "Learnable", "Loss", "fit"]
