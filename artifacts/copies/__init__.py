"""Releases elsewhere: folders, archives, remote copies, and buckets that hosts share."""
