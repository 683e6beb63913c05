"""The commands for what is in a store, by subject; `deployments.cli` puts them together."""
