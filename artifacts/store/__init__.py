"""The store on disk: objects, releases, aliases, signatures, policy, and the checks that they are what was written."""
