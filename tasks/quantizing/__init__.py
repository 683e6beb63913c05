"""FP8 recipes, the amax of activations and weights, and our use of ModelOpt."""
