"""The store on disk: objects, releases, aliases, signatures, and the checks that they are what was written."""
