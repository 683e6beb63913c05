"""The report of a release, as a page and as markdown, and everything that is drawn."""
