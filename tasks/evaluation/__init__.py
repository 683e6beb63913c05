"""Accuracy: metrics, the question that a data set asks, statistics, and the embeddings that are judged."""
