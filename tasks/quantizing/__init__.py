"""FP8 recipes, the amax of activations and weights, and what is asked of ModelOpt."""
