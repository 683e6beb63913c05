"""The search for a recipe: as much GEMM work in FP8 as the gates allow.

`units` are what may be left in FP16, `variants` runs an encoder with one of them in FP8, `sensitivity` measures what
that costs, `evaluation` holds a whole recipe to the gates, `plan` chooses what to evaluate, `journal` remembers it.
"""
