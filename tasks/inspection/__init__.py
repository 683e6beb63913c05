"""Describing a source of data before a run: counts, headers of its pictures, refusals, and a contact sheet."""
