"""The search for a recipe: as much GEMM work in FP8 as the gates allow.

`units` are the modules that may be left in FP16. `variants` runs an encoder with one of them in FP8, and `sensitivity`
measures the loss. `plan` chooses recipes, `evaluation` evaluates them for the gates, and `journal` records the results.
"""
